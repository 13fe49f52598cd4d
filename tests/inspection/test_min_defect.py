"""The smallest defect that matters: let through in the library, each export and the service, and no larger."""

from dataclasses import replace

import numpy as np
import pytest

from metricad.deploy import export, exported
from metricad.errors import DataError
from metricad.inspection import bundle, min_defect
from metricad.inspection.detector import PartDetector
from metricad.inspection.inspector import Inspector
from metricad.service import app
from tests import helpers

pytestmark = pytest.mark.tf

AREA = 16
SMALL, LARGE = 3, 40  # sides in pixels
SIDE = 128


def good_images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    return [helpers.surface(rng, (SIDE, SIDE)) for _ in range(count)]


def marked(side: int) -> np.ndarray:
    """A good image with a striped square as strong as can be."""
    at = (SIDE - side) // 2
    return helpers.scratched(good_images(9)[-1], at, at, side=side)


@pytest.fixture(scope="module")
def made(shared):
    """An inspector that reports every defect, and one that lets small ones through; and its file."""
    from metricad.networks import hypercolumn

    def make(path):
        path.mkdir()
        plain = helpers.make_part(hypercolumn.build(2, seed=1), "gaussian", (SIDE, SIDE))
        bundle.save(plain, path / "plain.metricad")
        bundle.save(min_defect.let_through(plain, good_images(8), AREA), path / "part.metricad")

    folder = helpers.once(shared / "min_defect", make)
    return tuple(bundle.load(folder / f"{name}.metricad") for name in ("plain", "part"))


def test_without_it_both_are_defects(made):
    assert [made[0].inspect(marked(side))[0].verdict for side in (SMALL, LARGE)] == ["defect", "defect"]


def test_print(made):
    print(made[1].fitted_on, made[1].threshold, [made[1].inspect(marked(s))[0].score for s in (3,10,20,30,40,60)])
    print([made[0].inspect(marked(s))[0].score for s in (3,10,20,30,40,60)])
    assert 0
