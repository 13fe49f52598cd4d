"""`python -m metricad` is the command line."""

from metricad.cli import main

main()
