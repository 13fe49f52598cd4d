"""What happens to pixels before a network sees them: color channels, intensity transform, regions."""
