"""Read each image file once and note what it is: size, levels, light, and a small copy to find duplicates."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import PIL.Image
from scipy.ndimage import laplace, uniform_filter

from metricad.data import images
from metricad.data.channels import LUMINANCE
from metricad.data.levels import BITS, Levels, container
from metricad.data.picture import Picture
from metricad.errors import DataError

SIDE = 256
"""Height and width, in pixels, of the copy in which details are compared."""

COARSE = 16
"""Height and width of the copy that is kept of every image: 1 KiB of memory each."""

_FINEST, _FINE, _SLOW = 3, 15, 55  # pixels of the copy of `SIDE`; sides of squares that are averaged
_AT_ONCE = 16  # images in memory


@dataclass(frozen=True)
class ImageFacts:
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
    largest : float
        Largest level.
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
    largest: float = 0.0
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
class Survey:
    """What all image files are.

    Attributes
    ----------
    all : list of ImageFacts
        One for each file, in order.
    coarse : float32 (n, 256)
        Coarse copy of each image without its slow changes of light, with mean 0; 0 for unreadable files.
    detail : float64 (256, 256)
        Sum of the fine detail of all readable images.
    """

    all: list[ImageFacts]
    coarse: np.ndarray
    detail: np.ndarray


def survey(
    paths: Sequence[str | os.PathLike[str]],
    *,
    bits: int | None = None,
    page: int | None = None,
    on_image: Callable[[], object] = lambda: None,
) -> Survey:
    """Read each image file once and note what it is. A bad file is noted as well, and the next one is read.

    Memory does not grow with the number of images but for 1 KiB each.

    Parameters
    ----------
    paths : sequence of path
    bits, page : int, optional
        As in `images.find_levels`.
    on_image : function, optional
        Called after each image, for a progress bar.
    """
    found: list[ImageFacts] = []
    coarse = np.zeros((len(paths), COARSE**2), np.float32)
    total = np.zeros((SIDE, SIDE))
    largest: dict[str, float] = defaultdict(float)
    for number, (one, small) in enumerate(_one_by_one(paths, page)):
        found.append(one)
        if small is not None:
            coarse[number] = _coarse(small)
            total += _detail(small)
            largest[one.container] = max(largest[one.container], one.largest)
        on_image()
    return Survey([_in_range(one, largest[one.container], bits) for one in found], coarse, total)


def read_detail(path: str, *, page: int | None = None) -> np.ndarray:
    """Read the fine detail of an image file: float32 (256, 256), see `Survey.detail`."""
    return _detail(_small(_luminance(images.decode(path, page=page), path)))


def _one_by_one(
    paths: Sequence[str | os.PathLike[str]], page: int | None
) -> Iterator[tuple[ImageFacts, np.ndarray | None]]:
    """Yield the facts and a small copy of each file; some are read ahead in threads."""
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as readers:
        for start in range(0, len(paths), _AT_ONCE):
            yield from readers.map(partial(_facts, page=page), paths[start : start + _AT_ONCE])


def _facts(path: str | os.PathLike[str], *, page: int | None) -> tuple[ImageFacts, np.ndarray | None]:
    name = str(path)
    try:
        picture = images.decode(path, page=page)
        images.to_image(picture, name=name)  # refuses transparent pixels and others that are not inspected
        light = _luminance(picture, name)
        contrast = float(light.std())
        facts = ImageFacts(
            name,
            height=light.shape[0],
            width=light.shape[1],
            color=_color(picture.pixels),
            container=container(picture.pixels, name),
            bits=picture.bits,
            largest=float(picture.pixels.max(initial=0)),
            digest=_digest(picture),
            brightness=float(light.mean()),
            contrast=contrast,
            sharpness=float(laplace(light).std()) / contrast if contrast else 0.0,
            is_turned=picture.is_turned,
        )
        return facts, _small(light)
    except DataError as error:
        problem = str(error).removeprefix(f"{name}: ")
    except MemoryError:
        problem = "too large for this machine's memory; give a smaller image"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    return ImageFacts(name, problem), None


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


def _in_range(facts: ImageFacts, largest: float, bits: int | None) -> ImageFacts:
    """Complete the bits of a file, and express its brightness and contrast as shares of white.

    `largest` is the largest level of all files with this type.
    """
    if facts.problem is not None or facts.container == "float":
        return facts
    width = int(facts.container.removeprefix("uint"))
    found = bits or facts.bits or (8 if width == 8 else next(n for n in BITS if largest < 2**n))
    white = 2**found - 1
    if found > width or facts.largest > white:
        return ImageFacts(facts.path, f"does not hold {found}-bit levels; expected those of --bits")
    return replace(facts, bits=found, brightness=facts.brightness / white, contrast=facts.contrast / white)


def _small(light: np.ndarray) -> np.ndarray:
    """Resize a luminance to `SIDE` and normalize it to mean 0 and standard deviation 1."""
    small = np.asarray(
        PIL.Image.fromarray(light).resize((SIDE, SIDE), PIL.Image.Resampling.BILINEAR, reducing_gap=3)
    )
    spread = float(small.std())
    return (small - small.mean()) / (spread or 1.0)


def _coarse(small: np.ndarray) -> np.ndarray:
    block = SIDE // COARSE
    flat = small - uniform_filter(small, _SLOW)
    blocks = flat.reshape(COARSE, block, COARSE, block).mean(axis=(1, 3)).ravel()
    return blocks - blocks.mean()


def _detail(small: np.ndarray) -> np.ndarray:
    return uniform_filter(small, _FINEST) - uniform_filter(small, _FINE)
