"""CIFAR-100 in gray: patches of natural scenes to learn a distance from, and their TFDS builder."""
