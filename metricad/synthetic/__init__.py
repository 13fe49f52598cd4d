"""Synthetic defects, and textures to put them on."""
