"""Builders and generators that put surface data where metricad reads it."""
