"""The synthetic surfaces as a TFDS data set."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_prep import schema
from data_prep.progress import track
from data_prep.surfaces import generator
from data_prep.surfaces.plan import Plan, Rendered


@dataclasses.dataclass(eq=False)
class SurfacesConfig(tfds.core.BuilderConfig):
    """TFDS configuration with a plan."""

    plan: Plan = dataclasses.field(default_factory=Plan)


def config_of(plan: Plan) -> SurfacesConfig:
    """Return the configuration of a plan. If TFDS knows its name, its own object is required."""
    known = Surfaces.builder_configs.get(plan.name)
    return known or SurfacesConfig(name=plan.name, description=str(plan), plan=plan)


class Surfaces(tfds.core.GeneratorBasedBuilder):
    """TFDS builder without downloads. `train` has good images; `test` has other good images and all
    defects.
    """

    name = "surfaces"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012 (required by TFDS)
        SurfacesConfig(name=Plan().name, description=str(Plan())),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Synthetic textured surfaces, some with a defect, marked pixel by pixel.",
            features=schema.labelled_surfaces(generator.NAMES),
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        plan = self.builder_config.plan
        splits = {split: list(plan.split(split)) for split in ("train", "test")}
        counts = {
            split: schema.count([image.surface for image in images], [image.defect for image in images])
            for split, images in splits.items()
        }
        self.info.metadata.update(counts=counts, notes=[])
        return {split: self._generate_examples(split, images) for split, images in splits.items()}

    def _generate_examples(
        self, split: str, images: Sequence[Rendered]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        plan = self.builder_config.plan
        for wanted in track(images, f"surfaces {split}"):
            image, mask = generator.render(
                wanted.surface, wanted.index, seed=plan.seed, size=plan.size, defect=wanted.defect
            )
            yield (
                wanted.name,
                {
                    "image": image[..., None],
                    "mask": np.where(mask, np.uint8(255), np.uint8(0))[..., None],
                    "label": schema.DEFECT if wanted.defect else schema.NORMAL,
                    "surface": generator.NAMES[wanted.surface - 1],
                    "name": wanted.name,
                },
            )
