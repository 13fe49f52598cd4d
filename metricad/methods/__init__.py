"""Published methods that metricad is compared with; each follows `inspection.interface.Detector`.

A method is one module here and one line in each of the two lists below.
"""

import importlib
from enum import StrEnum
from typing import Any


class Method(StrEnum):
    """Published methods by name. Each is in the module of its member's name."""

    cae_kde = "cae-kde"
    denoising = "denoising"
    autoencoder = "autoencoder"
    f_anogan = "f-anogan"
    cpcae_knn = "cpcae-knn"
    deep_feature_knn = "deep-feature-knn"
    nearest_image = "nearest-image"
    patch_gaussian = "patch-gaussian"
    patch_bank = "patch-bank"


_CLASSES = {
    Method.cae_kde: "CaeKdeDetector",
    Method.denoising: "DenoisingDetector",
    Method.autoencoder: "AutoencoderDetector",
    Method.f_anogan: "FAnoGanDetector",
    Method.cpcae_knn: "CpcaeKnnDetector",
    Method.deep_feature_knn: "DeepFeatureKnnDetector",
    Method.nearest_image: "NearestImageDetector",
    Method.patch_gaussian: "PatchGaussianDetector",
    Method.patch_bank: "PatchBankDetector",
}


def detector_class(name: str) -> Any:
    """Import a published method's detector; one that takes ``epochs`` trains, ``weights`` is pre-trained.

    Raises
    ------
    ValueError
        There is no such method.
    """
    if name not in list(Method):
        raise ValueError(f"method must be one of {', '.join(Method)}, received {name!r}")
    method = Method(name)
    return getattr(importlib.import_module(f"metricad.methods.{method.name}"), _CLASSES[method])
