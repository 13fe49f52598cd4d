"""Train networks: the paper's with triplets, the shipped ones with episodes."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from metricad.training.settings import Settings as Settings

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "settings": ["Settings"],
    },
)
