"""The paper's grid of experiments, run in parallel and gone on with after an interruption."""

from enum import StrEnum


class Preset(StrEnum):
    """Grids that are ready to run."""

    paper = "paper"
    surfaces = "surfaces"
    quick = "quick"
