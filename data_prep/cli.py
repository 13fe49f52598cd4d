"""``metricad-data``: put data sets where metricad reads them. Nothing is downloaded."""

from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NoReturn

import typer

from metricad.cli import console
from metricad.deploy import native_output

app = typer.Typer(
    help="Put surface data where metricad reads it: TFDS directories, or folders as MVTec AD has them. "
    "Nothing is downloaded; --manual-dir is where you have unpacked the original.",
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ManualDir = Annotated[Path, typer.Option(help="The folder that holds the unpacked original.")]
DataDir = Annotated[Path, typer.Option(help="The folder that data sets are written to.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Build anew what is there already.")]

DagmClass = StrEnum(
    "DagmClass",
    "all class1 class2 class3 class4 class5 class6 class7 class8 class9 class10",
)


@app.command()
def kylberg(manual_dir: ManualDir, data_dir: DataDir, overwrite: Overwrite = False) -> None:
    """Kylberg textures: 28 classes to learn a distance from.

    Example: metricad-data kylberg --manual-dir ~/kylberg --data-dir data
    """
    building = _building(manual_dir)
    from data_prep.kylberg.builder import Kylberg

    _tell(building.prepare(Kylberg, manual_dir=manual_dir, data_dir=data_dir, overwrite=overwrite))


@app.command()
def dagm2007(
    manual_dir: ManualDir,
    data_dir: DataDir,
    config: Annotated[
        DagmClass, typer.Option(metavar="[all|class1…class10]", help="One class, or all there are.")
    ] = DagmClass.all,
    overwrite: Overwrite = False,
) -> None:
    """DAGM 2007: ten synthetic surfaces with marked defects, whole or in part.

    Example: metricad-data dagm2007 --manual-dir ~/dagm --config class1 --data-dir data
    """
    building = _building(manual_dir)
    from data_prep.dagm2007.builder import Dagm2007

    _tell(
        building.prepare(
            Dagm2007, manual_dir=manual_dir, data_dir=data_dir, config=config.value, overwrite=overwrite
        )
    )


@app.command()
def cifar100(manual_dir: ManualDir, data_dir: DataDir, overwrite: Overwrite = False) -> None:
    """CIFAR-100 in gray, from the one that TensorFlow Datasets has prepared in --manual-dir.

    Example: metricad-data cifar100 --manual-dir ~/tensorflow_datasets --data-dir data
    """
    building = _building(manual_dir)
    from data_prep.cifar100.builder import Cifar100Gray

    _tell(building.prepare(Cifar100Gray, manual_dir=manual_dir, data_dir=data_dir, overwrite=overwrite))


@app.command()
def surfaces(
    data_dir: DataDir,
    size: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 512,
    normals: Annotated[int, typer.Option(help="Normal images of each surface, one half to train.")] = 100,
    defects: Annotated[int, typer.Option(help="Defective images of each surface, all to test.")] = 50,
    surfaces: Annotated[str, typer.Option(help="Which surfaces: numbers between commas, or all.")] = "all",
    seed: Annotated[int, typer.Option(help="Seed of the whole data set.")] = 0,
    folders: Annotated[
        bool, typer.Option("--folders", help="Write image files, laid out as MVTec AD, to DATA_DIR/surfaces.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Synthetic surfaces with defects, rendered here.

    Example: metricad-data surfaces --surfaces 1,2,5 --size 256 --data-dir data
    """
    from data_prep.surfaces.plan import Plan

    options: dict[str, Any] = {"size": size, "normals": normals, "defects": defects, "seed": seed}
    plan = Plan(**options) if surfaces == "all" else Plan(**options, surfaces=_numbers(surfaces))
    if folders:
        from data_prep.surfaces.folders import render_folders

        _tell(render_folders(plan, data_dir, overwrite=overwrite))
        return
    building = _building()
    from data_prep.surfaces.builder import Surfaces, config_of

    _tell(building.prepare(Surfaces, data_dir=data_dir, config=config_of(plan), overwrite=overwrite))


@app.command()
def magnetic_tile(
    manual_dir: ManualDir,
    data_dir: DataDir,
    copy: Annotated[bool, typer.Option("--copy", help="Copy images instead of hard-linking them.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Magnetic-tile defects, laid out as MVTec AD in DATA_DIR/magnetic_tile.

    Example: metricad-data magnetic-tile --manual-dir ~/magnetic_tile --data-dir data
    """
    from data_prep.magnetic_tile import convert

    _tell(convert(manual_dir, data_dir, copy=copy, overwrite=overwrite))


def _building(manual_dir: Path | None = None) -> ModuleType:
    """Import what needs TensorFlow, which takes seconds: only once the arguments are known to be good."""
    if manual_dir is not None:
        from data_prep import sources

        sources.folder(manual_dir)
    native_output.load_tensorflow()
    from data_prep import building

    return building


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise ValueError(
            f"Invalid surfaces: expected numbers between commas such as 1,2,5, or all. Received: {text!r}"
        ) from None


def _tell(lines: list[str]) -> None:
    for line in lines:
        print(line)


def main() -> NoReturn:
    """Run the command line."""
    console.run(app, prog="metricad-data")
