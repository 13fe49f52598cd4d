"""Preprocessing of pixels before the network: color channels, intensity transform, regions of interest."""
