"""CIFAR-100 in gray as a TFDS data set, made from the one that TFDS prepares."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from data_prep import schema, sources
from data_prep.progress import track
from metricad.errors import DataError

_SOURCE = "cifar100"
_SIDE = 32  # pixels
_IMAGES = {"train": 50_000, "test": 10_000}
_INFO = "dataset_info.json"


class Cifar100Gray(tfds.core.GeneratorBasedBuilder):
    """TFDS builder with the original's splits and the 100 fine classes as `label`."""

    name = "cifar100_gray"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Prepare CIFAR-100 on a networked machine (tfds build cifar100 --data_dir DIR) and give that DIR."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="CIFAR-100 as luminance: 32 × 32 patches of natural scenes in 100 classes.",
            features=tfds.features.FeaturesDict(
                {
                    "image": schema.gray_image(_SIDE, _SIDE),
                    "label": tfds.features.ClassLabel(),  # names are those of the original
                    "name": tfds.features.Text(),
                }
            ),
            homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        original = open_original(Path(dl_manager.manual_dir))
        names = original.info.features["label"].names
        self.info.features["label"].names = names
        numbers = {split: info.num_examples for split, info in original.info.splits.items()}
        counts = {split: {"images": number, "classes": len(names)} for split, number in numbers.items()}
        notes = [
            f"{split}: {number} of the original's {_IMAGES[split]} images in this copy"
            for split, number in numbers.items()
            if number != _IMAGES.get(split, number)
        ]
        self.info.metadata.update(counts=counts, notes=notes)
        return {split: self._generate_examples(original, split) for split in numbers}

    def _generate_examples(
        self, original: tfds.core.DatasetBuilder, split: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        names = original.info.features["label"].names
        total = original.info.splits[split].num_examples
        for example in track(_examples(original, split), f"cifar100 {split}", total=total):
            label = names[example["label"]]
            name = f"{label}/{example['id'].decode()}"
            gray = sources.to_gray(example["image"])
            yield name, {"image": gray[..., None], "label": label, "name": name}


def open_original(manual_dir: Path) -> tfds.core.DatasetBuilder:
    """Open the newest CIFAR-100 prepared by TFDS in a folder, without its builder.

    Raises
    ------
    DataError
        There is no CIFAR-100, it is damaged, or it is another data set.
    """
    # The folder may be TFDS's data folder, that of the data set, or that of a version.
    found = [
        *manual_dir.glob(f"{_SOURCE}/*/{_INFO}"),
        *manual_dir.glob(f"*/{_INFO}"),
        *manual_dir.glob(_INFO),
    ]
    if not found:
        raise DataError(
            f"{manual_dir}: no prepared CIFAR-100 here; expected {_SOURCE}/VERSION/{_INFO}: on a networked "
            f'machine run "tfds build {_SOURCE} --data_dir DIR" and give that DIR, or copy it here'
        )
    folder = max(found, key=lambda path: _version(path.parent.name)).parent
    try:
        original = tfds.builder_from_directory(folder)
        features = original.info.features
        fits = original.name == _SOURCE and {"id", "image", "label"} <= set(features)
    except Exception as error:  # TFDS, protobuf and JSON raise their own types of error
        raise DataError(
            f"{folder}: a damaged data set ({type(error).__name__}); prepare CIFAR-100 again"
        ) from error
    if not fits:
        raise DataError(f"{folder}: expected {_SOURCE} with id, image and label, received {original.name}")
    return original


def _examples(original: tfds.core.DatasetBuilder, split: str) -> Iterator[dict[str, Any]]:
    try:
        # It is read once, so TFDS's cache in memory would not help.
        read_config = tfds.ReadConfig(try_autocache=False)
        yield from tfds.as_numpy(
            original.as_dataset(split=split, shuffle_files=False, read_config=read_config)
        )
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "message", str(error)).splitlines()[0]
        raise DataError(
            f"{original.data_dir}: damaged {split} records ({reason}); prepare CIFAR-100 again"
        ) from error


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else -1 for part in text.split("."))
