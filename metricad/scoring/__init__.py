"""Distance maps to a verdict: standard scores, fusion, image score and threshold."""
