"""Read surfaces from folders and from prepared TFDS directories, one image at a time.

Four layouts are read: a folder of classes (``DIR/<class>/*``), the MVTec layout
(``DIR/<class>/{train/good,test/<kind>,ground_truth/<kind>}``), and TFDS directories, either of classes
(features ``image``, ``label``) or of labeled surfaces (also ``surface`` and ``mask``).
"""

import functools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from metricad.data import images, masks, patches
from metricad.data.channels import to_luminance
from metricad.data.fingerprint import fingerprint
from metricad.data.levels import Levels
from metricad.errors import DataError

T = TypeVar("T")

_GOOD = "good"
_LABELS = ["normal", "defect"]


@dataclass(frozen=True)
class Sample:
    """One image that is read when needed.

    Attributes
    ----------
    name : str
        Name, unique in its data set.
    kind : str
        ``good``, or the kind of defect.
    read : function
        Returns the image, float32 (H, W), or (H, W, 3) for a color image, in [-1, 1].
    read_mask : function or None
        Returns the mask of the defect, bool (H, W), if it is known.
    read_at : function or None
        Returns the image read with another range of levels than that of the surface's good images.
    """

    name: str
    kind: str
    read: Callable[[], np.ndarray]
    read_mask: Callable[[], np.ndarray] | None = None
    read_at: Callable[[Levels], np.ndarray] | None = None

    @property
    def is_defect(self) -> bool:
        """Whether this is a defective image."""
        return self.kind != _GOOD


@dataclass(frozen=True)
class Surface:
    """One class of surface: good images to fit to and labeled images to test on.

    Attributes
    ----------
    dataset, name : str
    fit : tuple of Sample
        Good images; training and densities use only these.
    test : tuple of Sample
        All other good images and all defects; empty if there are no labels.
    skipped : Counter of str
        Numbers of files in its folders that are no images, by suffix; see `images.Found`.
    """

    dataset: str
    name: str
    fit: tuple[Sample, ...]
    test: tuple[Sample, ...]
    skipped: Counter[str] = field(default_factory=Counter, compare=False)


def load(
    source: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    normals: int | None = None,
) -> list[Surface]:
    """Find the surfaces in a folder or a prepared data set. Images are read later.

    Parameters
    ----------
    source : path or str
        A folder in one of the layouts above, or the name of a data set in `data_dir`. If it has several
        configurations, add one: ``kylberg``, ``dagm2007/class1``. A colon and names select some of its
        surfaces or classes: ``dagm2007/all:class1,class2``.
    data_dir : path, optional
        Folder of the data sets prepared by ``metricad-data``.
    normals : int, optional
        Number of good images of each labeled surface to fit to. In a TFDS data set they are chosen by a fixed
        shuffle, so that every run has the same split; the default is half of them. In the MVTec layout they
        are the first of train/good; the default is all. Data sets of classes are always used completely.

    Raises
    ------
    DataError
        The data set does not exist, has no known layout, or has fewer good images than requested.
    """
    if normals is not None and normals < 1:
        raise ValueError(f"normals must be at least 1, received {normals}")
    folder = Path(source)
    if not folder.is_dir() and ":" in str(source):
        whole, _, names = str(source).rpartition(":")
        return _choose(load(whole, data_dir=data_dir, normals=normals), names.split(","), whole)
    if not folder.is_dir():
        return _from_tfds(_find_prepared(str(source), data_dir), normals)
    if any(folder.rglob("dataset_info.json")):
        return _from_tfds(_newest(folder, folder.name), normals)
    return _from_folder(folder, normals)


def with_levels(surface: Surface, levels: Levels) -> Surface:
    """Return a surface whose images are read with this range of levels, as that of a fitted inspector."""

    def changed(samples: Iterable[Sample]) -> tuple[Sample, ...]:
        return tuple(
            replace(one, read=functools.partial(one.read_at, levels)) if one.read_at else one
            for one in samples
        )

    return replace(surface, fit=changed(surface.fit), test=changed(surface.test))


def known_mask(sample: Sample, shape: tuple[int, ...]) -> np.ndarray | None:
    """Read the mask of a defect in an image of a shape (H, W, …), bool (H, W); None if there is none.

    Raises
    ------
    DataError
        The mask cannot be read, has another size than the image, or covers nearly all of it.
    """
    mask = sample.read_mask() if sample.read_mask else None
    if mask is None or not mask.any():  # some data sets have defects with an empty mask: unknown, not good
        return None
    if problem := masks.problem(mask, shape):
        raise DataError(f"{sample.name}: {problem}; mend the mask")
    return mask


def mask_problems(surface: Surface) -> Iterator[str]:
    """Read all masks of a surface's defects and say which cannot be used, one line each."""
    for sample in surface.test:
        if sample.is_defect and sample.read_mask:
            try:
                shape = sample.read().shape
            except DataError:  # the evaluation will say so
                continue
            try:
                known_mask(sample, shape)
            except DataError as error:
                yield str(error)


def read_all(samples: Iterable[Sample]) -> Iterator[np.ndarray]:
    """Read images one by one and yield their luminance, float32 (H, W) in [-1, 1]."""
    return (to_luminance(sample.read()) for sample in samples)


def _choose(surfaces: Sequence[Surface], names: Sequence[str], source: str) -> list[Surface]:
    by_name = {surface.name: surface for surface in surfaces}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise DataError(f"{source}: has no {', '.join(missing)}; choose among {', '.join(by_name)}")
    return [by_name[name] for name in names]


def _from_folder(folder: Path, normals: int | None) -> list[Surface]:
    name = folder.resolve().name
    if (folder / "train" / _GOOD).is_dir():
        return [_from_mvtec(folder, name, normals)]
    children = [child for child in sorted(folder.iterdir()) if child.is_dir() and child.name[0] != "."]
    labelled = [child for child in children if (child / "train" / _GOOD).is_dir()]
    if labelled:
        return [_from_mvtec(child, name, normals) for child in labelled]
    if not children:
        raise DataError(
            f"{folder}: expected one folder of images for each class, or the MVTec layout "
            "(<class>/train/good, <class>/test/<kind>); found no folders"
        )
    return [_from_class(child, folder, name) for child in children]


def _from_class(child: Path, folder: Path, dataset: str) -> Surface:
    found = images.search([child])
    paths = found.readable()
    levels = _levels(paths)
    fit = tuple(_file_sample(path, folder, _GOOD, levels) for path in paths)
    return Surface(dataset, child.name, fit, (), found.left_out())


def _levels(paths: Sequence[Path]) -> Callable[[], Levels]:
    """Make a function that finds the range of levels of good images when it is needed, once."""

    @functools.cache
    def found() -> Levels | DataError:
        try:
            return images.find_levels(paths, skips_bad=True)
        except DataError as error:
            return error

    def levels() -> Levels:
        if isinstance(known := found(), DataError):
            raise known
        return known

    return levels


def _from_mvtec(folder: Path, dataset: str, normals: int | None) -> Surface:
    found = images.search([folder / "train" / _GOOD])
    good, skipped = _first(found.readable(), normals, folder.name), found.left_out()
    levels = _levels(good)
    fit = [_file_sample(path, folder, _GOOD, levels) for path in good]
    test = []
    for kind in sorted(child for child in (folder / "test").glob("*") if child.is_dir()):
        found = images.search([kind])
        skipped += found.left_out()
        for path in found.readable():
            beside = folder / "ground_truth" / path.relative_to(folder / "test").parent
            test.append(_file_sample(path, folder, kind.name, levels, masks.find(beside, path.stem)))
    return Surface(dataset, folder.name, tuple(fit), tuple(test), skipped)


def _file_sample(
    path: Path, root: Path, kind: str, found: Callable[[], Levels], mask: Path | None = None
) -> Sample:
    def read(levels: Levels) -> np.ndarray:
        return images.read(path, minimum_size=patches.PATCH_SIZE, color=True, levels=levels)

    read_mask = None if mask is None else functools.partial(masks.read, mask)
    return Sample(path.relative_to(root).as_posix(), kind, lambda: read(found()), read_mask, read)


def _first(good: list[T], count: int | None, surface: str) -> list[T]:
    if count is not None and count > len(good):
        raise DataError(f"{surface}: asked for {count} good images to fit to, found {len(good)}")
    return good[:count]


def _find_prepared(name: str, data_dir: str | os.PathLike[str] | None) -> Path:
    if data_dir is None:
        raise DataError(
            f"{name}: no such folder; for the name of a prepared data set give --data-dir as well"
        )
    folder = Path(data_dir) / name
    if not folder.is_dir():
        raise DataError(
            f"{name}: not found in {data_dir}; prepare it with metricad-data (see metricad-data --help)"
        )
    return _newest(folder, name)


def _newest(folder: Path, name: str) -> Path:
    """Find the newest version of the only configuration in `folder`."""
    found = sorted(info.parent for info in folder.rglob("dataset_info.json"))
    if not found:
        raise DataError(f"{folder}: no prepared data set here (dataset_info.json is missing)")
    configurations = sorted({version.parent for version in found if version != folder})
    if len(configurations) > 1:
        names = ", ".join(f"{name}/{path.name}" for path in configurations)
        raise DataError(f"{name}: has several configurations; name one of {names}")
    return max(found, key=lambda path: [int(part) if part.isdigit() else 0 for part in path.name.split(".")])


def _from_tfds(folder: Path, normals: int | None) -> list[Surface]:
    try:
        name, samples, is_labelled = _read_tfds(folder)
    except Exception as error:  # TFDS, protobuf and TensorFlow raise their own types of error
        raise DataError(
            f"{folder}: damaged, or no images with labels ({type(error).__name__}); prepare it again"
        ) from error
    if not is_labelled:
        return [Surface(name, label, tuple(members), ()) for label, members in samples.items() if members]
    return [
        _split_labelled(name, label, sorted(members, key=lambda sample: sample.name), normals)
        for label, members in samples.items()
        if members
    ]


def _read_tfds(folder: Path) -> tuple[str, dict[str, list[Sample]], bool]:
    """Read a data set: name, samples by class or surface, and whether labels are good/defect."""
    import tensorflow_datasets as tfds  # slow to import, and not needed for folders

    builder = tfds.builder_from_directory(folder)
    # The name has no version. It is the same whether the data set was found by name or by folder.
    name = builder.info.full_name.rpartition("/")[0]
    features = builder.info.features
    is_labelled = features["label"].names == _LABELS
    classes = features["surface" if is_labelled else "label"].names
    samples: dict[str, list[Sample]] = {label: [] for label in classes}
    undecoded = {key: tfds.decode.SkipDecoding() for key in ("image", "mask") if key in features}
    for split in builder.info.splits:
        examples = tfds.as_numpy(
            builder.as_dataset(
                split=split,
                decoders=undecoded,
                shuffle_files=False,
                read_config=tfds.ReadConfig(try_autocache=False),  # read once: no cache needed
            )
        )
        for number, example in enumerate(examples):
            label = classes[example["surface" if is_labelled else "label"]]
            default = f"{split}/{number}".encode()
            sample = _tfds_sample(example, example.get("name", default).decode(), is_labelled)
            samples[label].append(sample)
    return name, samples, is_labelled


def _tfds_sample(example: dict[str, Any], name: str, is_labelled: bool) -> Sample:
    # Only the encoded bytes are kept, so that the images of a surface fit into memory.
    encoded = example["image"]
    is_defect = is_labelled and _LABELS[example["label"]] == "defect"
    mask = example.get("mask")

    def read(levels: Levels | None = None) -> np.ndarray:
        pixels = _decode(encoded, name)
        return images.to_image(pixels, name=name, minimum_size=patches.PATCH_SIZE, color=True, levels=levels)

    return Sample(
        name,
        "defect" if is_defect else _GOOD,
        read,
        (lambda: _decode(mask, name)[..., 0] > 0) if is_defect and mask is not None else None,
        read,
    )


def _decode(encoded: bytes, name: str) -> np.ndarray:
    import tensorflow as tf

    try:
        return tf.io.decode_image(encoded, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise DataError(f"{name}: damaged, no readable image; prepare the data set again") from error


def _split_labelled(dataset: str, surface: str, samples: list[Sample], normals: int | None) -> Surface:
    good = [sample for sample in samples if not sample.is_defect]
    # The shuffle does not depend on the run's seed, so that training and evaluation use the same split.
    shuffled = [good[i] for i in np.random.default_rng(0).permutation(len(good))]
    fit = _first(shuffled, len(good) // 2 if normals is None else normals, surface)
    seen = {sample.name for sample in fit}
    return Surface(dataset, surface, tuple(fit), tuple(s for s in samples if s.name not in seen))


def describe(surfaces: Sequence[Surface]) -> dict[str, Any]:
    """Describe the training images of a data set, for the record of a run.

    The images of labeled surfaces are listed by name, and all images by `fingerprint`, so that evaluation can
    refuse to test on them. The images are read, except those of a patch's size, which nobody tests on.
    """
    read = (sample.read() for surface in surfaces for sample in surface.fit)
    seen = {fingerprint(image) for image in read if min(image.shape[:2]) > patches.PATCH_SIZE}
    return {
        "dataset": surfaces[0].dataset,
        "classes": len(surfaces),
        "images": sum(len(surface.fit) for surface in surfaces),
        "labelled": {s.name: sorted(sample.name for sample in s.fit) for s in surfaces if s.test},
        "fingerprints": sorted(seen),
    }
