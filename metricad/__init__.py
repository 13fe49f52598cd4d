"""metricad inspects textured surfaces with a learned distance."""
