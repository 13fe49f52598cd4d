"""Options that several verbs of the command line share, and how their values are read."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path | None, typer.Option(help="Where metricad-data put the prepared data sets.", show_default=False)
]
Normals = Annotated[
    int | None,
    typer.Option(
        min=1, help="Good images of each labelled surface to learn from.", show_default="half of them"
    ),
]
Holdout = Annotated[
    float, typer.Option(min=0, help="Share of the good images to learn from kept for setting the threshold.")
]
FalseAlarmRate = Annotated[
    float, typer.Option(help="Largest share of good images that may be called defects.")
]

UnseenGood = Annotated[
    list[Path],
    typer.Argument(help="Images of good parts, or folders of them, that took no part in fitting it."),
]


class Kind(StrEnum):
    """Kinds of density."""

    mean = "mean"
    mixture = "mixture"
    gaussian = "gaussian"
    positional = "positional"
    auto = "auto"


SHIPPED = ("accurate", "fast")
"""Networks that ship, the default one first; here without Keras, which takes seconds to import."""


class PartPreset(StrEnum):
    """Methods by name."""

    paper = "paper"


class DefectKind(StrEnum):
    """Kinds of synthetic defects; here without what draws them, which takes a second to import."""

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


class ComparedMethod(StrEnum):
    """Published methods that metricad is compared with; here without Keras."""

    cae_kde = "cae-kde"
    denoising = "denoising"
    autoencoder = "autoencoder"
    f_anogan = "f-anogan"
    cpcae_knn = "cpcae-knn"
    deep_feature_knn = "deep-feature-knn"
    nearest_image = "nearest-image"
    patch_gaussian = "patch-gaussian"
    patch_bank = "patch-bank"


class Preset(StrEnum):
    """Grids that are ready to run."""

    paper = "paper"
    surfaces = "surfaces"
    quick = "quick"


class ExportFormat(StrEnum):
    """Formats that inspectors are exported to."""

    onnx = "onnx"
    openvino = "openvino"
    litert = "litert"
    saved_model = "saved-model"


class InputType(StrEnum):
    """What an exported inspector is given pixels as."""

    float32 = "float32"
    uint8 = "uint8"


class Precision(StrEnum):
    """Numbers that an exported network counts with."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    int8 = "int8"


class Metric(StrEnum):
    """Distances to the mean."""

    euclidean = "euclidean"
    manhattan = "manhattan"


class Format(StrEnum):
    """How verdicts are printed."""

    table = "table"
    csv = "csv"
    jsonl = "jsonl"


def read_numbers(text: str, kind: type, option: str, *, count: int | None = None) -> tuple:
    """Read numbers with commas between them, as many as `count` if that is given."""
    try:
        numbers = tuple(kind(part) for part in text.split(","))
    except ValueError:
        numbers = None
    if numbers is None or count not in (None, len(numbers)):
        expected = f"{count} numbers with a comma" if count else "numbers with commas"
        raise typer.BadParameter(f"{option} expects {expected} between them; received {text!r}")
    return numbers


def refuse_all_but(context: typer.Context, *allowed: str) -> None:
    """Refuse every option on the command line but these: an interrupted run knows its own."""
    given = [
        name
        for name in context.params
        if name not in allowed and context.get_parameter_source(name).name == "COMMANDLINE"
    ]
    if given:
        raise typer.BadParameter(f"--resume goes on with the run's own options; leave out {', '.join(given)}")
