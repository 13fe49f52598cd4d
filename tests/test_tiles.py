"""Large images: tiles give what the whole image gives, but for the last bits."""

import numpy as np
import pytest
from conftest import texture

from metricad import kinds
from metricad.inspection import tiles
from metricad.inspection.detector import TripletDetector
from metricad.networks import factory as architectures
from metricad.networks import hypercolumn
from metricad.networks import residual as network

SHAPES = [(331, 490), (512, 303), (640, 641), (290, 1000), (100, 901)]


@pytest.fixture(scope="module", params=[network.NAME, hypercolumn.NAME, hypercolumn.THREE_SCALES])
def fitted(request):
    model = architectures.build(request.param, 4, seed=3)
    rng = np.random.default_rng(1)
    prototype = kinds.prototype_of("gaussian", architectures.grid(model))
    beside = kinds.evidence_for(model)
    detector = TripletDetector(model, prototype, evidence=beside, gathers=kinds.gathers(model))
    return detector.fit(texture(rng, side=320) for _ in range(4))


def image(shape):
    return np.random.default_rng(7).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("side", [300, 417])
def test_tiles_are_the_whole(fitted, shape, side):
    pieces = []

    def distances(part):
        pieces.append(part.size)
        return fitted.distance_map(part)

    whole = fitted.distance_map(image(shape))
    found = tiles.distance_map(distances, image(shape), fitted.grid, side=side)
    assert len(pieces) == -(-shape[0] // side) * -(-shape[1] // side)
    assert found.shape == whole.shape
    # Not bit for bit: where a matrix product begins decides which numbers its vector units add first.
    np.testing.assert_allclose(found, whole, rtol=2e-6, atol=2e-6 * whole.max())


def test_no_tile_is_much_larger_than_asked_for(fitted):
    pieces = []
    tiles.distance_map(
        lambda part: pieces.append(part.shape) or fitted.distance_map(part),
        image((1500, 700)),
        fitted.grid,
        side=512,
    )
    sampling = fitted.grid
    overlap = 2 * sampling.reach + sampling.smallest + 3 * sampling.lattice
    assert max(map(max, pieces)) <= 512 + overlap


def test_a_detector_cuts_what_is_large(fitted, monkeypatch):
    whole = fitted.distance_map(image((400, 500)))
    seen = []
    inner = fitted._stacked
    monkeypatch.setattr(tiles, "LARGE", 100_000)
    monkeypatch.setattr(tiles.distance_map, "__kwdefaults__", {"side": 260})
    monkeypatch.setattr(fitted, "_stacked", lambda part, *_: seen.append(part.shape) or inner(part))
    cut = fitted.distance_map(image((400, 500)))
    assert len(seen) == 4
    np.testing.assert_allclose(cut, whole, rtol=2e-6, atol=2e-6 * whole.max())
    seen.clear()
    fitted.distance_map(image((300, 300)))
    assert len(seen) == 1
