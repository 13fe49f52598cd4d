"""CIFAR-100 in gray: small images of natural scenes for training, and their TFDS builder."""
