"""`python -m metricad` is the command line."""

from metricad.cli.app import main

if __name__ == "__main__":  # a process that `workers` begins imports this module as well
    main()
