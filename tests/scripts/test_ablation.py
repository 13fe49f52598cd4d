"""The script that changes one ingredient of the default at a time: what is changed, and the page."""

import argparse

import numpy as np
import pytest

from metricad.data.datasets import Sample, Surface
from metricad.reporting import markdown
from tests.helpers import COLLECTING, load_script, scratched, texture

if not COLLECTING:
    from metricad.evaluation.protocol import images_of
    from metricad.inspection.detector import PartDetector
    from metricad.networks import pretrained

pytestmark = pytest.mark.tf

if not COLLECTING:
    script = load_script("ablation")

SIDE = 80


def sample(name, image, kind="good"):
    return Sample(name, kind, lambda: image)


def made_surface(*, last_side=SIDE):
    """Stripes, never in register; the last good image may be of another size."""
    rng = np.random.default_rng(0)
    good = [texture(rng, side=SIDE) for _ in range(7)] + [texture(rng, side=last_side)]
    test = [sample(f"good{k}", texture(rng, side=SIDE)) for k in range(3)]
    for k in range(3):
        marked = scratched(texture(rng, side=SIDE), *rng.integers(20, 50, 2), side=12)
        test.append(sample(f"scratch{k}", marked, "scratch"))
    fit = tuple(sample(f"fit{k}", image) for k, image in enumerate(good))
    return Surface("made/small", "stripes", fit, tuple(test))


@pytest.fixture(scope="module")
def explored():
    """A surface with images of two sizes, and what was found on it."""
    surface = made_surface(last_side=SIDE + 8)
    names = ["whole", "mixture", "positional", "top-10%", "no lines", "no places", "no color", "one scale"]
    seen = []
    found = script.explore(surface, names, network="fast", on_image=lambda: seen.append(1))
    assert len(seen) == len(surface.test)
    return surface, found


def detector(surface, **options):
    return PartDetector(pretrained.load("fast"), **options).fit(images_of(surface.fit))


def test_the_default_is_the_detector_as_it_is(explored):
    surface, found = explored
    whole = detector(surface)
    expected = [whole.score(image) for image in images_of(surface.test)]
    np.testing.assert_allclose(found.scores["whole"], expected, rtol=1e-4, atol=1e-4)
    assert found.defect == [False] * 3 + [True] * 3
    assert found.fitted == 8  # too few to hold some out for a threshold


def test_what_has_nothing_to_change_is_the_default(explored):
    _, found = explored
    assert set(found.same) == {"mixture", "no lines", "no color", "one scale"}
    for name in found.same:
        assert found.scores[name] == found.scores["whole"]


def test_a_density_by_position_is_not_possible_on_several_sizes(explored):
    assert explored[1].scores["positional"] is None


def test_another_score_is_that_of_a_detector_fitted_with_it(explored):
    surface, found = explored
    other = detector(surface, score="top-10%")
    expected = np.array([other.score(image) for image in images_of(surface.test)])
    # But for where good images' scores lie, and how far apart: no AUROC depends on it.
    slope, _ = np.polyfit(found.scores["top-10%"], expected, 1)
    assert slope > 0
    assert np.corrcoef(found.scores["top-10%"], expected)[0, 1] == pytest.approx(1, abs=1e-6)


def test_standard_scores_of_the_whole_map_are_of_one_mean_and_one_deviation():
    rng = np.random.default_rng(1)
    maps = [np.exp(rng.normal(size=(4 + k, 5, 2))).astype(np.float32) for k in range(3)]
    inside = np.ones((4, 5), bool)
    inside[0] = False
    insides = [inside, None, None]
    whole = script.WholeMap(2)
    held_out = whole.adapt_and_score(maps, insides)

    def expected(chosen, one):
        flat = np.concatenate(
            [(maps[k] if insides[k] is None else maps[k][insides[k]]).reshape(-1, 2) for k in chosen]
        )
        return (np.log(one) - np.log(flat).mean(axis=0)) / np.log(flat).std(axis=0)

    found = whole(maps[1][np.newaxis]).numpy()[0]
    np.testing.assert_allclose(found, expected([0, 1, 2], maps[1]), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(held_out[0], expected([1, 2], maps[0]), rtol=1e-3, atol=1e-4)


def test_what_standard_scores_are_learned_from_is_kept():
    surface = made_surface()
    with script.distances_kept() as kept:
        fitted = detector(surface, kind="gaussian")
    distances, insides = kept
    assert len(distances) == len(insides) == 8
    assert distances[0].shape == fitted.distances(surface.fit[0].read()).shape
    again = script.WholeMap(1).adapt(distances, insides)
    assert again.center.shape == (1, 1, 1)


def found_on(surface, dataset, whole, other, same=()):
    defect = [False] * 4 + [True] * 4
    scores = {"whole": whole, "mixture": other, "no color": list(whole)}
    return script.Found(dataset, surface, "chosen", 9, defect, scores, list(same))


def test_the_page(tmp_path):
    perfect, chance = [0.0] * 4 + [1.0] * 4, [0.0] * 8
    found = [
        found_on("wood", "parts", perfect, chance, same=["no color"]),
        found_on("steel", "parts", perfect, perfect, same=["no color"]),
        found_on("woven", "surfaces/all", chance, None),
    ]
    options = argparse.Namespace(
        data=[str(tmp_path), "surfaces"], data_dir=None, network="accurate", variant=["mixture"], seed=3
    )
    names = ["whole", "mixture", "no color"]
    document = script.build(found, names, options)
    changes = markdown.table(document.blocks[-1])
    assert changes[0].endswith("| parts, 2 | surfaces, 1 | mean |")
    assert changes[2].endswith("| 1.000 | 0.500 | 0.750 |")
    assert "| 0.750, -0.250 [-0.250, -0.250] | – | – |" in changes[3]
    assert "| 1.000 | 0.500, +0.000 [+0.000, +0.000] | 0.750, +0.000" in changes[4]
    text = markdown.render(document)
    assert "| wood | 1.000 [1.000, 1.000] | 0.500 [0.500, 0.500] | = |" in text
    assert "| **parts, mean of 2** | **1.000** | **0.750** | **1.000** |" in text
    assert "| woven | 0.500 [0.500, 0.500] | – |" in text
    assert "| **mean of groups** | **0.750** | – | **0.750** |" in text
    assert f"--data {tmp_path.name} --data surfaces --network accurate --variant mixture --seed 3" in text
    assert str(tmp_path) not in text
    lines = script.to_csv(found, names, seed=3).splitlines()
    assert lines[2] == "parts,wood,4,4,mixture,0,0.500000,0.500000,0.500000"
    assert lines[3] == "parts,wood,4,4,no color,1,1.000000,1.000000,1.000000"
    assert lines[8] == "surfaces/all,woven,4,4,mixture,0,,,"


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    surface, asked = made_surface(), []
    kept = found_on("stripes", "made/small", [0.0] * 4 + [1.0] * 4, None)

    def explore(surface, names, **options):
        asked.append(list(names))
        return kept

    monkeypatch.setattr(script, "explore", explore)
    options = argparse.Namespace(work=tmp_path, network="fast", seed=0)
    for names in (["whole", "mixture"], ["whole"], ["whole", "one scale"]):
        assert script.explore_once(surface, names, options, on_image=lambda: None) == kept
    assert asked == [["whole", "mixture"], ["whole", "one scale"]]
