"""DAGM 2007 as a TFDS data set."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_prep import schema, sources
from data_prep.dagm2007 import ellipses, layout
from data_prep.progress import track
from metricad.errors import DataError

ALL = "all"
_CITATION = """
@misc{dagm2007,
  author = {Matthias Wieler and Tobias Hahn},
  title = {Weakly Supervised Learning for Industrial Optical Inspection},
  howpublished = {DAGM Symposium},
  year = {2007}
}
"""


class Dagm2007(tfds.core.GeneratorBasedBuilder):
    """TFDS builder with the original's splits; `train` also has defective images."""

    name = "dagm2007"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Get DAGM 2007 from its home page and unpack it: one folder Class1 to Class10 for each class, or as "
        "many of them as are wanted."
    )
    BUILDER_CONFIGS = [  # noqa: RUF012 (required by TFDS)
        tfds.core.BuilderConfig(name=ALL, description="All classes that the copy holds."),
        *(tfds.core.BuilderConfig(name=name, description=f"Only {name}.") for name in layout.CLASSES),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Ten synthetic surfaces; a defective image has one defect, inside a marked ellipse.",
            features=schema.labelled_surfaces(layout.CLASSES),
            homepage="https://hci.iwr.uni-heidelberg.de/content/weakly-supervised-learning-industrial-optical-inspection",
            citation=_CITATION,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        config = self.builder_config.name
        splits, notes = layout.find(
            Path(dl_manager.manual_dir), layout.CLASSES if config == ALL else (config,)
        )
        counts = {
            split: schema.count([image.surface for image in images], [image.defective for image in images])
            for split, images in splits.items()
        }
        self.info.metadata.update(counts=counts, notes=notes)
        return {split: self._generate_examples(split, images) for split, images in splits.items()}

    def _generate_examples(
        self, split: str, images: Sequence[layout.Inspected]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for inspected in track(images, f"dagm2007 {split}"):
            image = sources.read_gray(inspected.image)
            yield (
                inspected.name,
                {
                    "image": image[..., None],
                    "mask": _mask(inspected, image.shape)[..., None],
                    "label": schema.DEFECT if inspected.defective else schema.NORMAL,
                    "surface": inspected.surface,
                    "name": inspected.name,
                },
            )


def _mask(inspected: layout.Inspected, shape: tuple[int, int]) -> np.ndarray:
    """Make the mask, uint8 (H, W): 255 on the defect, 0 elsewhere; all 0 for a good image."""
    if not inspected.defective:
        return np.zeros(shape, dtype=np.uint8)
    if inspected.ellipse is not None:
        mask = ellipses.draw(inspected.ellipse, shape)
    else:
        assert inspected.mask is not None
        mask = sources.read_mask(inspected.mask, shape)
    if not mask.any():
        where = inspected.mask or inspected.image
        raise DataError(
            f"{where}: a defective image without a marked pixel; expected its defect: get the file again"
        )
    return mask
