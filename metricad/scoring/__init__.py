"""From distance maps to a verdict: standardising, fusing, the image score and its threshold."""
