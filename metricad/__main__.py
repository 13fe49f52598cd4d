"""Run the command line with `python -m metricad`."""

from metricad.cli.app import main

if __name__ == "__main__":  # processes started by `workers` import this module, too
    main()
