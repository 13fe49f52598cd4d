"""Synthetic defects and textures."""

from enum import StrEnum


class DefectKind(StrEnum):
    """Kinds of synthetic defects."""

    scratch = "scratch"
    crack = "crack"
    spots = "spots"
    stain = "stain"
    paste = "paste"
    foreign = "foreign"
    blur = "blur"
    noise = "noise"
    warp = "warp"
    gap = "gap"
