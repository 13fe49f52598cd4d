"""Published methods to compare metricad with; each follows `inspection.interface.Detector`.

Each method has one module here and one line in each of the two lists below.
"""

import importlib
from enum import StrEnum
from typing import Any


class Method(StrEnum):
    """Names of the published methods. The module of each has the name of its member."""

    cae_kde = "cae-kde"
    denoising = "denoising"
    autoencoder = "autoencoder"
    f_anogan = "f-anogan"
    cpcae = "cpcae"
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
    Method.cpcae: "CpcaeDetector",
    Method.cpcae_knn: "CpcaeKnnDetector",
    Method.deep_feature_knn: "DeepFeatureKnnDetector",
    Method.nearest_image: "NearestImageDetector",
    Method.patch_gaussian: "PatchGaussianDetector",
    Method.patch_bank: "PatchBankDetector",
}


def detector_class(name: str) -> Any:
    """Import the detector of a method. It takes ``epochs`` if it is trained, ``weights`` if pre-trained.

    Raises
    ------
    ValueError
        No published method has this name.
    """
    if name not in list(Method):
        raise ValueError(f"method must be one of {', '.join(Method)}, received {name!r}")
    method = Method(name)
    return getattr(importlib.import_module(f"metricad.methods.{method.name}"), _CLASSES[method])
