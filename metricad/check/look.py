"""Look at each image file once: its size, levels and light, and small copies to find duplicates with."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
from scipy.ndimage import gaussian_filter, laplace

from metricad.data import images
from metricad.data.channels import LUMINANCE
from metricad.data.levels import BITS, Levels, container
from metricad.data.picture import Picture
from metricad.errors import DataError

SIDE = 256
"""Height and width, in pixels, of the copy in which details are compared."""

COARSE = 16
"""Height and width of the copy that is kept of every image: 1 KiB of memory each."""

_FINEST, _FINE, _SLOW = 1.0, 4.0, 16.0  # pixels of the copy of `SIDE`; standard deviations of Gaussians
_AT_ONCE = 16  # images in memory


@dataclass(frozen=True)
class Look:
    """What one image file is.

    Attributes
    ----------
    path : str
    problem : str or None
        Why the file cannot be read; then nothing else is known.
    height, width : int
    color : {"gray", "color", "gray as color"}
        The last are color files in which red, green and blue are equal everywhere.
    container : str
        Type of the levels, as in `Levels`.
    bits : int or None
        Bits of a level: said by the file, or found on all files of this type; None for floats.
    digest : str
        SHA-256 of the pixels, with their shape and type.
    brightness, contrast : float in [0, 1]
        Mean and standard deviation of the luminance, as shares of white.
    sharpness : float
        Standard deviation of the Laplacian of the luminance, as a share of the contrast.
    is_turned : bool
        Whether the file's orientation was applied.
    """

    path: str
    problem: str | None = None
    height: int = 0
    width: int = 0
    color: str = ""
    container: str = ""
    bits: int | None = None
    digest: str = ""
    brightness: float = 0.0
    contrast: float = 0.0
    sharpness: float = 0.0
    is_turned: bool = False

    @property
    def levels(self) -> str:
        """Describe type and range of the levels."""
        return str(Levels(self.container, self.bits))


@dataclass(frozen=True)
class Looks:
    """What all image files are.

    Attributes
    ----------
    all : list of Look
        One for each file, in order.
    coarse : float32 (n, 256)
        Coarse copy of each image without its slow changes of light, with mean 0; 0 for unreadable files.
    detail : float64 (256, 256)
        Sum of the fine detail of all readable images.
    """

    all: list[Look]
    coarse: np.ndarray
    detail: np.ndarray


def look_at(
    paths: Sequence[str | os.PathLike[str]],
    *,
    bits: int | None = None,
    page: int | None = None,
    on_image: Callable[[], object] = lambda: None,
) -> Looks:
    """Look at each image file once. A bad file is noted, and the next one is looked at.

    Memory does not grow with the number of images but for 1 KiB each.

    Parameters
    ----------
    paths : sequence of path
    bits, page : int, optional
        As in `images.find_levels`.
    on_image : function, optional
        Called after each image, for a progress bar.
    """
    found: list[Look] = []
    coarse = np.zeros((len(paths), COARSE**2), np.float32)
    total = np.zeros((SIDE, SIDE))
    largest: dict[str, int] = {}
    for number, (look, top, small, detail) in enumerate(_one_by_one(paths, page)):
        found.append(look)
        if look.problem is None:
            coarse[number] = small
            total += detail
            largest[look.container] = max(largest.get(look.container, 0), top)
        on_image()
    return Looks([_in_range(look, largest, bits) for look in found], coarse, total)


def read_detail(path: str, *, page: int | None = None) -> np.ndarray:
    """Read the fine detail of an image file: float32 (256, 256), see `Looks.detail`."""
    return _detail(_small(_luminance(images.decode(path, page=page), path)))


def _one_by_one(
    paths: Sequence[str | os.PathLike[str]], page: int | None
) -> Iterator[tuple[Look, int, np.ndarray | None, np.ndarray | None]]:
    """Yield a look, the largest level, the coarse copy and the detail of each file; a few are read ahead."""
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as readers:
        for start in range(0, len(paths), _AT_ONCE):
            yield from readers.map(partial(_look, page=page), paths[start : start + _AT_ONCE])


def _look(
    path: str | os.PathLike[str], *, page: int | None
) -> tuple[Look, int, np.ndarray | None, np.ndarray | None]:
    name = str(path)
    try:
        picture = images.decode(path, page=page)
        images.to_image(picture, name=name)  # refuses transparent pixels and others that are not inspected
        light = _luminance(picture, name)
        pixels = picture.pixels
        small = _small(light)
        contrast = float(light.std())
        look = Look(
            name,
            height=light.shape[0],
            width=light.shape[1],
            color=_color(pixels),
            container=container(pixels, name),
            bits=picture.bits,
            digest=_digest(picture),
            brightness=float(light.mean()),
            contrast=contrast,
            sharpness=float(laplace(light).std()) / contrast if contrast else 0.0,
            is_turned=picture.is_turned,
        )
        return look, int(pixels.max(initial=0)), _coarse(small), _detail(small)
    except DataError as error:
        problem = str(error).removeprefix(f"{name}: ")
    except MemoryError:
        problem = "too large for this machine's memory; give a smaller image"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    return Look(name, problem), 0, None, None


def _luminance(picture: Picture, name: str) -> np.ndarray:
    """Compute the luminance in levels of the file, float32 (H, W)."""
    pixels = picture.pixels.astype(np.float32)
    light = pixels if pixels.ndim == 2 else pixels @ np.array(LUMINANCE, np.float32)
    if not picture.is_negative:
        return light
    kind = container(picture.pixels, name)
    white = 1 if kind == "float" else 2 ** (picture.bits or int(kind.removeprefix("uint"))) - 1
    return white - light


def _color(pixels: np.ndarray) -> str:
    if pixels.ndim == 2:
        return "gray"
    return "color" if np.any(pixels != pixels[..., :1]) else "gray as color"


def _digest(picture: Picture) -> str:
    pixels = np.ascontiguousarray(picture.pixels)
    said = f"{pixels.shape} {pixels.dtype.str} {picture.bits} {picture.is_negative} "
    return hashlib.sha256(said.encode() + pixels.tobytes()).hexdigest()


def _in_range(look: Look, largest: dict[str, int], bits: int | None) -> Look:
    """Complete the bits of a look, and express its brightness and contrast as shares of white."""
    if look.problem is not None or look.container == "float":
        return look
    width = int(look.container.removeprefix("uint"))
    found = look.bits or bits
    if found is None:
        found = 8 if width == 8 else next(n for n in BITS if largest[look.container] < 2**n)
    found = min(found, width)
    white = 2**found - 1
    return replace(look, bits=found, brightness=look.brightness / white, contrast=look.contrast / white)


def _small(light: np.ndarray) -> np.ndarray:
    """Resize a luminance to `SIDE` and normalize it to mean 0 and standard deviation 1."""
    small = np.asarray(
        PIL.Image.fromarray(light).resize((SIDE, SIDE), PIL.Image.Resampling.BILINEAR, reducing_gap=3)
    )
    spread = float(small.std())
    return (small - small.mean()) / (spread or 1.0)


def _coarse(small: np.ndarray) -> np.ndarray:
    block = SIDE // COARSE
    flat = small - gaussian_filter(small, _SLOW)
    blocks = flat.reshape(COARSE, block, COARSE, block).mean(axis=(1, 3)).ravel()
    return blocks - blocks.mean()


def _detail(small: np.ndarray) -> np.ndarray:
    return gaussian_filter(small, _FINEST) - gaussian_filter(small, _FINE)


def name_of(look: Look) -> str:
    """Return the name of an image's file, without its folder."""
    return Path(look.path).name
