"""The Kylberg texture set as a TFDS data set."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_prep import schema, sources
from data_prep.kylberg import layout
from data_prep.progress import track

_CITATION = """
@techreport{kylberg2011,
  author = {Gustaf Kylberg},
  title = {The Kylberg Texture Dataset v. 1.0},
  institution = {Centre for Image Analysis, Uppsala University},
  number = {35},
  year = {2011}
}
"""


class Kylberg(tfds.core.GeneratorBasedBuilder):
    """TFDS builder with one split, `train`. A texture is a class; its patches have a `sample` and a
    `rotation`.
    """

    name = "kylberg"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Get the Kylberg Texture Dataset v. 1.0 from its home page, with or without rotations, and unpack "
        "it: one folder per texture."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Photographs of 28 textures, normalized to mean 127 and standard deviation 40.",
            features=tfds.features.FeaturesDict(
                {
                    "image": schema.gray_image(),
                    "label": tfds.features.ClassLabel(),  # names are those of the folders
                    "sample": tfds.features.ClassLabel(names=layout.SAMPLES),
                    "rotation": tfds.features.Scalar(dtype=np.int32, doc="degrees"),
                    "name": tfds.features.Text(),
                }
            ),
            homepage="https://www.cb.uu.se/~gustaf/texture/",
            citation=_CITATION,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        patches = layout.find(Path(dl_manager.manual_dir))
        textures = [patch.texture for patch in patches]
        self.info.features["label"].names = sorted(set(textures))
        self.info.metadata.update(counts={"train": schema.count(textures)}, notes=layout.notes(patches))
        return {"train": self._generate_examples(patches)}

    def _generate_examples(self, patches: Sequence[layout.Patch]) -> Iterator[tuple[str, dict[str, Any]]]:
        for patch in track(patches, "kylberg"):
            yield (
                patch.name,
                {
                    "image": sources.read_gray(patch.path)[..., None],
                    "label": patch.texture,
                    "sample": patch.sample,
                    "rotation": patch.rotation,
                    "name": patch.name,
                },
            )
