"""Published methods that metricad is compared with; each follows `inspection.interface.Detector`."""
