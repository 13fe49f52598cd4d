"""A part of an evaluation that another process does is kept, and not done again."""

import os

import numpy as np
import pytest

from tests.helpers import COLLECTING, save, scratched, texture

if not COLLECTING:
    from metricad.evaluation import comparison
    from metricad.evaluation.request import Cell, Request, work

pytestmark = pytest.mark.tf


def test_cells_are_planned_from_words_and_kept(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for surface in ("steel", "wood"):
        for number in range(4):
            save(tmp_path / surface / "train" / "good" / f"{number}.png", texture(rng))
            save(tmp_path / surface / "test" / "good" / f"{number}.png", texture(rng))
            save(tmp_path / surface / "test" / "bad" / f"{number}.png", scratched(texture(rng), 20, 30))
    monkeypatch.chdir(tmp_path)
    request = Request(("steel", "wood"), tmp_path / "kept", methods=("nearest-image",), normals=4)
    surfaces = request.surfaces()
    plan = request.plan(surfaces)
    os.chdir("/")  # as in the process of another machine
    for number in range(2):
        work(Cell(number, "any"), request)

    def refuse(*_, **__):
        raise AssertionError("done again")

    monkeypatch.setattr(comparison, "evaluate", refuse)
    study = request.run(plan)
    assert {result.surface for result in study.results} == {"steel", "wood"}
    assert len(study.results) == sum(len(task.methods) for task in plan)
