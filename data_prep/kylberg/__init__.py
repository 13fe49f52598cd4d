"""The Kylberg texture set: 28 textures, four photographs each, and its TFDS builder."""
