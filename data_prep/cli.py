"""``metricad-data``: prepare data sets where metricad reads them. Nothing is downloaded."""

from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NoReturn

import typer

from metricad import files
from metricad.cli import console
from metricad.deploy import native_output

app = typer.Typer(
    cls=console.Program,
    help="Put surface data where metricad reads it: TFDS directories, or folders as MVTec AD has them. "
    "Nothing is downloaded; --manual-dir is where you have unpacked the original.",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ManualDir = Annotated[Path, typer.Option(help="Folder of the unpacked original.")]
DataDir = Annotated[Path, typer.Option(help="Folder for the data sets.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a data set that already exists.")]

DagmClass = StrEnum(
    "DagmClass",
    "all class1 class2 class3 class4 class5 class6 class7 class8 class9 class10",
)


@app.command(cls=console.Verb)
def kylberg(manual_dir: ManualDir, data_dir: DataDir, overwrite: Overwrite = False) -> None:
    """Prepare the Kylberg textures: 28 classes for training.

    Example: metricad-data kylberg --manual-dir ~/kylberg --data-dir data
    """
    building = _building(data_dir, "kylberg", manual_dir, overwrite=overwrite)
    from data_prep.kylberg.builder import Kylberg

    _tell(building.prepare(Kylberg, manual_dir=manual_dir, data_dir=data_dir, overwrite=overwrite))


@app.command(cls=console.Verb)
def dagm2007(
    manual_dir: ManualDir,
    data_dir: DataDir,
    config: Annotated[
        DagmClass, typer.Option(metavar="[all|class1…class10]", help="One class, or all classes of the copy.")
    ] = DagmClass.all,
    overwrite: Overwrite = False,
) -> None:
    """Prepare DAGM 2007: ten synthetic surfaces with marked defects, complete or in part.

    Example: metricad-data dagm2007 --manual-dir ~/dagm --config class1 --data-dir data
    """
    building = _building(data_dir, "dagm2007", manual_dir, overwrite=overwrite)
    from data_prep.dagm2007.builder import Dagm2007

    _tell(
        building.prepare(
            Dagm2007, manual_dir=manual_dir, data_dir=data_dir, config=config.value, overwrite=overwrite
        )
    )


@app.command(cls=console.Verb)
def cifar100(manual_dir: ManualDir, data_dir: DataDir, overwrite: Overwrite = False) -> None:
    """Prepare CIFAR-100 in gray, from the one that TensorFlow Datasets prepared in --manual-dir.

    Example: metricad-data cifar100 --manual-dir ~/tensorflow_datasets --data-dir data
    """
    building = _building(data_dir, "cifar100_gray", manual_dir, overwrite=overwrite)
    from data_prep.cifar100.builder import Cifar100Gray

    _tell(building.prepare(Cifar100Gray, manual_dir=manual_dir, data_dir=data_dir, overwrite=overwrite))


@app.command(cls=console.Verb)
def surfaces(
    data_dir: DataDir,
    size: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 512,
    normals: Annotated[
        int, typer.Option(help="Good images of each surface; half of them for training.")
    ] = 100,
    defects: Annotated[int, typer.Option(help="Defective images of each surface, all for testing.")] = 50,
    surfaces: Annotated[
        str, typer.Option(help="Numbers of the surfaces, separated by commas, or all.")
    ] = "all",
    seed: Annotated[int, typer.Option(help="Seed of the whole data set.")] = 0,
    folders: Annotated[
        bool,
        typer.Option("--folders", help="Write image files in the layout of MVTec AD to DATA_DIR/surfaces."),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Render synthetic surfaces with defects.

    Example: metricad-data surfaces --surfaces 1,2,5 --size 256 --data-dir data
    """
    from data_prep.surfaces.plan import Plan

    options: dict[str, Any] = {"size": size, "normals": normals, "defects": defects, "seed": seed}
    plan = Plan(**options) if surfaces == "all" else Plan(**options, surfaces=_numbers(surfaces))
    if folders:
        from data_prep.surfaces.folders import render_folders

        _check_writable(data_dir, "surfaces", overwrite=overwrite)
        _tell(render_folders(plan, data_dir, overwrite=overwrite))
        return
    building = _building(data_dir, "surfaces", overwrite=overwrite)
    from data_prep.surfaces.builder import Surfaces, config_of

    _tell(building.prepare(Surfaces, data_dir=data_dir, config=config_of(plan), overwrite=overwrite))


@app.command(cls=console.Verb)
def magnetic_tile(
    manual_dir: ManualDir,
    data_dir: DataDir,
    copy: Annotated[bool, typer.Option("--copy", help="Copy images instead of making hard links.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Convert magnetic-tile defects to the layout of MVTec AD in DATA_DIR/magnetic_tile.

    Example: metricad-data magnetic-tile --manual-dir ~/magnetic_tile --data-dir data
    """
    from data_prep.magnetic_tile import convert

    _check_writable(data_dir, "magnetic_tile", overwrite=overwrite)
    _tell(convert(manual_dir, data_dir, copy=copy, overwrite=overwrite))


def _building(data_dir: Path, name: str, manual_dir: Path | None = None, *, overwrite: bool) -> ModuleType:
    """Check the folders, then import the module that needs TensorFlow, because this takes seconds."""
    _check_writable(data_dir, name, overwrite=overwrite)
    if manual_dir is not None:
        from data_prep import sources

        sources.folder(manual_dir)
    native_output.load_tensorflow()
    from data_prep import building

    return building


def _check_writable(data_dir: Path, name: str, *, overwrite: bool) -> None:
    """Check that the data set can be written; one that is there already is only read."""
    data_dir = data_dir.expanduser()
    if overwrite or not (data_dir / name).exists():
        files.check_writable(data_dir, folder=True)


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
