"""Write the synthetic surfaces as image files in the folder layout of MVTec AD."""

from pathlib import Path

import numpy as np
import skimage

from data_prep import staging
from data_prep.progress import track
from data_prep.surfaces import generator
from data_prep.surfaces.plan import Plan, Rendered
from metricad.errors import DataError

NAME = "surfaces"


def render_folders(plan: Plan, data_dir: Path, *, overwrite: bool = False) -> list[str]:
    """Write ``data_dir/surfaces/<surface>/{train/good,test/good,test/defect,ground_truth/defect}``.

    Parameters
    ----------
    plan : Plan
        Images to render; those of `train` go to train/good.
    data_dir : Path
        Parent of the new folder ``surfaces``.
    overwrite : bool
        Replace an existing folder when the new one is complete.

    Returns
    -------
    list of str
        Lines for the user.

    Raises
    ------
    DataError
        Something else is in its place, or the folder exists and `overwrite` is false. It is not changed.
    """
    data_dir = Path(data_dir).expanduser()
    target = data_dir / NAME
    if target.exists():
        # TFDS directories of the same name may be in this place, too.
        if not target.is_dir() or not all((child / "train" / "good").is_dir() for child in target.iterdir()):
            raise DataError(f"{target}: exists and was not made by this command; choose another --data-dir")
        if not overwrite:
            raise DataError(f"{target}: already exists; --overwrite replaces it")
    wanted = [(split, rendered) for split in ("train", "test") for rendered in plan.split(split)]
    with staging.publishing(data_dir, NAME) as folder:
        for split, rendered in track(wanted, NAME):
            _write(folder / NAME, split, rendered, plan)
    defects = sum(rendered.defect for _, rendered in wanted)
    counts = f"{len(wanted) - defects} good, {defects} defects, {len(plan.surfaces)} classes"
    return [f"{target}: {len(wanted)} images ({counts})"]


def _write(root: Path, split: str, rendered: Rendered, plan: Plan) -> None:
    image, mask = generator.render(
        rendered.surface, rendered.index, seed=plan.seed, size=plan.size, defect=rendered.defect
    )
    surface = root / generator.NAMES[rendered.surface - 1]
    kind = "defect" if rendered.defect else "good"
    _save(surface / split / kind / f"{rendered.index:04d}.png", image)
    if rendered.defect:
        shade = np.where(mask, np.uint8(255), np.uint8(0))
        _save(surface / "ground_truth" / kind / f"{rendered.index:04d}_mask.png", shade)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    skimage.io.imsave(path, pixels, check_contrast=False)
