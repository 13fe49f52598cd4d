"""The synthetic surfaces as folders, read back as metricad reads them."""

import numpy as np
import pytest

from data_prep.surfaces import generator
from data_prep.surfaces.folders import render_folders
from data_prep.surfaces.plan import Plan
from metricad.data import datasets
from metricad.errors import DataError

PLAN = Plan(size=64, normals=4, defects=2, surfaces=(1, 8))


def test_metricad_reads_the_folders_as_they_are_rendered(tmp_path):
    lines = render_folders(PLAN, tmp_path)
    assert lines[-1].endswith("12 images (8 good, 4 defects, 2 classes)")
    surfaces = datasets.load(tmp_path / "surfaces")
    assert [surface.name for surface in surfaces] == sorted(generator.NAMES[n - 1] for n in (1, 8))
    surface = next(surface for surface in surfaces if surface.name == generator.NAMES[7])
    assert [len(surface.fit), len(surface.test)] == [2, 4]
    defect = next(sample for sample in surface.test if sample.is_defect)
    image, mask = generator.render(8, 0, size=64, defect=True)
    np.testing.assert_allclose(defect.read(), image / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(defect.read_mask(), mask)


def test_folders_are_replaced_only_when_told_so(tmp_path):
    render_folders(PLAN, tmp_path)
    before = sorted((tmp_path / "surfaces").rglob("*.png"))
    with pytest.raises(DataError, match="--overwrite"):
        render_folders(PLAN, tmp_path)
    assert sorted((tmp_path / "surfaces").rglob("*.png")) == before
    render_folders(Plan(size=64, normals=2, defects=1, surfaces=(2,)), tmp_path, overwrite=True)
    assert [path.name for path in (tmp_path / "surfaces").iterdir()] == [generator.NAMES[1]]


def test_something_else_is_never_replaced(tmp_path):
    prepared = tmp_path / "surfaces" / "default" / "1.0.0"
    prepared.mkdir(parents=True)
    with pytest.raises(DataError, match="was not made by this command"):
        render_folders(PLAN, tmp_path, overwrite=True)
    assert prepared.is_dir()
