"""Prepare data sets and generate synthetic surfaces in the form that metricad reads."""
