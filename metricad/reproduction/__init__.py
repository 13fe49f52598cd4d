"""Run the paper's grid of experiments in parallel, and continue it after an interruption."""

from enum import StrEnum


class Preset(StrEnum):
    """Names of predefined grids."""

    paper = "paper"
    surfaces = "surfaces"
    quick = "quick"
