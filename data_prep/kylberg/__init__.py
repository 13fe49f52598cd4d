"""The Kylberg texture set: 28 textures with four photographs each, and its TFDS builder."""
