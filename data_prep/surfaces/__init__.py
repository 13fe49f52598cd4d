"""Synthetic textured surfaces with defects: the generator and its TFDS builder."""
