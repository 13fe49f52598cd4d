"""Shared by benchmarks and studies: render textures, time functions alternately, fit many times faster."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

from data_prep.surfaces import generator
from metricad.data.images import from_uint8
from metricad.density import MEANS
from metricad.inspection.interface import Detector

SIDE = 512
"""Height and width of an image, in pixels."""

SET_UP_IMAGES = 100
"""Good images that an inspector is set up from."""

_SURFACES = (1, 2, 7, 8)  # of the generator, one in each quarter of an image
_TINTS = ((1.0, 0.8, 0.6), (0.6, 0.9, 1.0), (0.9, 1.0, 0.7), (1.0, 0.7, 0.9))  # red, green, blue of each
_RENDERED = 10  # different images; others are these, shifted round, as time does not depend on them
_GRAIN = 0.03  # standard deviation of the noise in each channel, on the scale of light from -1 to 1


def regions(
    count: int, shape: tuple[int, int] = (SIDE, SIDE), *, is_colored: bool = False
) -> list[np.ndarray]:
    """Draw images of a texture with several regions, at other positions in each image.

    Parameters
    ----------
    count : int
    shape : (int, int)
        Height and width, in pixels, even and at least 128.
    is_colored : bool
        Give each region a color, and the channels some noise.

    Returns
    -------
    list of float32 (height, width), or (height, width, 3), in [-1, 1]
    """
    drawn = [_quarters(number, shape) for number in range(min(count, _RENDERED))]
    if is_colored:
        drawn = [_colored(one, np.random.default_rng(number)) for number, one in enumerate(drawn)]
    shifts = np.random.default_rng(0).integers(shape, size=(count, 2))
    return [np.roll(drawn[k % len(drawn)], shift, axis=(0, 1)) for k, shift in enumerate(shifts)]


def _quarters(number: int, shape: tuple[int, int]) -> np.ndarray:
    rows, columns = (side // 2 for side in shape)
    one, two, three, four = (
        from_uint8(generator.render(surface, number, size=max(rows, columns))[0])[:rows, :columns]
        for surface in _SURFACES
    )
    return np.block([[one, two], [three, four]])


def _colored(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows, columns = (side // 2 for side in light.shape)
    tints = np.reshape(_TINTS, (2, 2, 3)).repeat(rows, axis=0).repeat(columns, axis=1)
    color = (light[..., np.newaxis] + 1) * tints - 1 + rng.normal(scale=_GRAIN, size=(*light.shape, 3))
    return np.clip(color, -1, 1).astype(np.float32)


def set_up(detector: Detector, images: Sequence[np.ndarray]) -> tuple[float, float]:
    """Measure seconds from good images to a threshold (a fifth held out), and of inspecting all of them."""
    held_out = len(images) // 5

    def fit() -> None:
        detector.fit(images[held_out:])
        for image in images[:held_out]:
            detector.score(image)

    return seconds(fit), seconds(lambda: [detector.score(image) for image in images])


def in_turns(works: Mapping[str, Callable[[int], object]], count: int) -> dict[str, float]:
    """Measure the median seconds of functions, called alternately with the numbers from 0 on.

    Before that each is given 0 once, as it may have to make a plan.
    """
    for work in works.values():
        work(0)
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(count):
        for name, work in works.items():
            taken[name].append(seconds(lambda work=work, number=number: work(number)))
    return {name: float(np.median(each)) for name, each in taken.items()}


def seconds(work: Callable[[], object]) -> float:
    """Measure the seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def components(detector: Detector) -> str:
    """Return the number of Gaussians of each feature map, except line filters and cells, which have one."""
    from metricad.inspection import model  # TensorFlow, which takes memory where that is measured
    from metricad.inspection.detector import PartDetector

    if not isinstance(detector, PartDetector):
        return "–"
    if detector.needs_positions or detector.kind in MEANS:
        return detector.description
    return ", ".join(
        f"{source.name}: {density.components}"
        for source, density in zip(detector.features.sources, detector.densities, strict=True)
        if source.kind not in (model.LINES, model.CELLS)
    )


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def features_once() -> Iterator[None]:
    """Compute the features of each image once, for studies with many fits to the same images.

    Results do not change. All feature maps stay in memory.
    """
    import keras
    import tensorflow as tf

    from metricad.inspection import detector, model

    build, compile_ = model.features, model.compiled
    kept: dict[tuple[object, ...], list[tf.Tensor]] = {}

    def features(network: keras.Model, **settings: Any) -> model.Features:
        found = build(network, **settings)

        def run(pixels: np.ndarray) -> list[tf.Tensor]:
            key = *settings.items(), pixels.shape, hashlib.sha1(np.ascontiguousarray(pixels)).digest()
            if key not in kept:
                kept[key] = keras.tree.flatten(found.run(pixels))
            return kept[key]

        return replace(found, run=run)

    def compiled(function: Any, *given: tf.TensorSpec) -> Callable[..., Any]:
        if getattr(function, "func", None) is not model.distances:
            return compile_(function, *given)
        found, densities = function.args

        def distances(*maps: tf.Tensor) -> tf.Tensor:
            return model.distances(replace(found, run=lambda _: maps), densities, maps[0])

        shapes = [tf.TensorSpec((1, None, None, source.dimensions)) for source in found.sources]
        after = compile_(distances, *shapes)
        return lambda pixels: after(*found.run(pixels))

    with mock.patch.object(model, "features", features), mock.patch.object(detector, "compiled", compiled):
        yield
