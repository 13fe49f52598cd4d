"""What is done to pixels before a network sees them: color channels, intensity transform, regions of interest."""
