"""Extract texture photographs under a free license, for training the shipped networks.

    apt-get download 0ad-data && dpkg-deb -x 0ad-data_*.deb 0ad
    python scripts/free_textures.py 0ad/usr/share/games/0ad/mods/public/public.zip --out textures

Takes the ground textures of the game 0 A.D. (Wildfire Games, CC BY-SA 3.0) out of its archive, as gray PNG
of 512 pixels a side. Left out are maps of normals and of gloss, water, and what is smaller or nearly even.
Some names are in the folders of several biomes; the last of each is kept, as for the shipped networks.
"""

import argparse
import io
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

SIDE = 512
_FOLDER = "art/textures/terrain/types/"
_NOT_A_SURFACE = ("_norm", "_spec", "_mask", "water", "lava", "test", "_n.", "_s.")
_LEAST_DEVIATION = 6  # gray levels


def main() -> None:
    """Read the options and extract."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    written = set()
    with zipfile.ZipFile(options.archive) as archive:
        for name in sorted(archive.namelist()):
            if not name.startswith(_FOLDER) or not name.endswith(".dds"):
                continue
            if any(part in name.lower() for part in _NOT_A_SURFACE):
                continue
            gray = to_gray(archive.read(name))
            if gray is not None:
                path = options.out / f"{PurePosixPath(name).name.split('.')[0]}.png"
                gray.save(path)
                written.add(path)
    print(f"{options.out}: {len(written)} textures")


def to_gray(content: bytes) -> Image.Image | None:
    """Decode a texture to gray, at most `SIDE` pixels on its shorter side; None if it is not usable."""
    try:
        gray = Image.open(io.BytesIO(content)).convert("L")
    except (OSError, ValueError, NotImplementedError):  # a compression that Pillow does not know
        return None
    if min(gray.size) < SIDE // 2 or np.asarray(gray).std() < _LEAST_DEVIATION:
        return None
    if min(gray.size) > SIDE:
        scale = SIDE / min(gray.size)
        gray = gray.resize([round(side * scale) for side in gray.size], Image.Resampling.LANCZOS)
    return gray


if __name__ == "__main__":
    main()
