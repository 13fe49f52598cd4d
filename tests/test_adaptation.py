"""Fitting to one part: a head from images of the prototype alone, the same every time."""

import numpy as np
import pytest
from conftest import save, texture
from metricad.kinds import AutoPrototype
from metricad.methods.adapted import AdaptedDetector
from metricad.positional import PositionalPrototype
from metricad.prototype import GaussianPrototype, MeanPrototype

from metricad import adaptation, defects, images, metrics
from metricad.inspection import bundle
from metricad.inspection import fit as inspector
from metricad.inspection.detector import TripletDetector
from metricad.networks import hypercolumn
from metricad.networks import residual as network
from metricad.preprocessing.regions import MaskRegion

SIDE = 96


@pytest.fixture(scope="module")
def small():
    """A network of the shape that ships, of the smallest size."""
    return hypercolumn.build(2, seed=0)


@pytest.fixture(scope="module")
def good():
    rng = np.random.default_rng(0)
    return [texture(rng, side=SIDE) for _ in range(5)]


def fitted(small, good, prototype=GaussianPrototype, **options):
    return TripletDetector(small, prototype(), **options).fit(good)


@pytest.mark.parametrize("prototype", [GaussianPrototype, PositionalPrototype, AutoPrototype])
def test_the_prototype_gets_a_head(small, good, prototype):
    detector, stepped = fitted(small, good, prototype), []
    base = detector.prototype
    adaptation.adapt(detector, good, count=6, on_step=lambda: stepped.append(1))
    assert len(stepped) == 6
    assert detector.prototype.kind == "head"
    assert detector.prototype.base is getattr(base, "chosen", base)
    distances = detector.distance_map(good[0])
    assert distances.dtype == np.float32
    assert np.isfinite(distances).all()
    assert distances.min() >= 0
    assert detector.anomaly_map(good[0]).shape == (SIDE, SIDE)


def test_adapting_is_the_same_every_time_and_depends_on_the_seed(small, good):
    maps = []
    for seed in (1, 1, 2):
        detector = fitted(small, good)
        adaptation.adapt(detector, good, count=6, seed=seed)
        maps.append(detector.distance_map(good[0]))
    np.testing.assert_array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])


def test_what_a_head_counts_for_is_measured_on_images_that_are_new_to_it(small, good):
    detector = fitted(small, good)
    adaptation.adapt(detector, good, count=6)
    made = detector.prototype
    features = [detector.features(image) for image in good]
    new = [made.held_out_parts(one, number).max(axis=(1, 2)) for number, one in enumerate(features)]
    learned = [made.parts(one).max(axis=(1, 2)) for one in features]
    distances, logits = np.transpose(new)
    np.testing.assert_allclose(
        made.exchange, [logits.mean(), np.log(distances).std() / logits.std()], rtol=1e-4
    )
    assert abs(made.exchange[0] - np.mean(learned, axis=0)[1]) > 1e-3


def test_what_is_rare_and_harmless_comes_nearer(small):
    """Good images of which some are half in shade: the head learns that no edge of shade is a defect."""
    rng = np.random.default_rng(3)

    def part(*, shaded):
        image = texture(rng, side=SIDE)
        if shaded:
            image[:, rng.integers(20, 76) :] -= 0.8
        return np.clip(image, -1, 1)

    good = [part(shaded=k % 4 == 0) for k in range(24)]
    plain, adapted = fitted(small, good), fitted(small, good)
    adaptation.adapt(adapted, good, count=150)
    harmless = [part(shaded=True) for _ in range(12)]
    spoiled = [
        defects.add(part(shaded=False), kind="scratch", size=3, contrast=0.12, rng=rng)[0] for _ in range(12)
    ]
    before, after = (
        metrics.auroc([0] * 12 + [1] * 12, [one.score(image) for image in harmless + spoiled])
        for one in (plain, adapted)
    )
    assert after > before


def test_images_are_taken_from_a_stream_only_as_far_as_memory_goes(small, good, monkeypatch):
    monkeypatch.setattr(adaptation, "MOST_IMAGES", 3)
    stream = iter(good)
    adaptation.adapt(fitted(small, good), stream, count=3)
    assert len(list(stream)) == 2


def test_defects_lie_in_the_region(small, good, monkeypatch):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[20:80, 10:60] = True
    places = []
    draw = defects.add_any

    def noting(image, rng, *, other, inside):
        found = draw(image, rng, other=other, inside=inside)
        places.append(inside[found[1]].mean())
        return found

    monkeypatch.setattr(defects, "add_any", noting)
    detector = fitted(small, good, region=MaskRegion(mask))
    adaptation.adapt(detector, good, count=6)
    assert min(places) >= 0.5
    assert detector.distance_map(good[0])[0, 0] == 0


def test_refusals(small, good):
    with pytest.raises(ValueError, match="at least 1, received 0"):
        adaptation.adapt(fitted(small, good), good, count=0)
    with pytest.raises(ValueError, match="base must be one of gaussian, positional, received 'mean'"):
        adaptation.adapt(fitted(small, good, MeanPrototype), good)


@pytest.fixture
def paths(tmp_path):
    """Twenty good images; the first pixel tells which."""
    rng = np.random.default_rng(1)
    found = []
    for number in range(20):
        image = texture(rng, side=SIDE)
        image[0, 0] = number / 10 - 1
        found.append(save(tmp_path / f"{number:02}.png", image))
    return found


@pytest.fixture
def kept(monkeypatch):
    """Numbers of the images that an adaptation is given."""
    given = []
    adapt = adaptation.adapt

    def noting(detector, images, **options):
        images = list(images)
        given.extend(round((float(image[0, 0]) + 1) * 10) for image in images)
        adapt(detector, images, **options)

    monkeypatch.setattr(adaptation, "adapt", noting)
    return given


def test_an_inspector_is_adapted_to_what_its_prototype_is_made_from(small, paths, kept, tmp_path):
    advanced = []
    options = {"false_alarm_rate": 0.2, "holdout": 0.25, "seed": 4}
    plain = inspector.fit_inspector(paths, small, **options)
    assert not kept
    made = inspector.fit_inspector(
        paths, small, defects=4, on_step=lambda: advanced.append("step"),
        on_image=lambda: advanced.append("image"), **options,
    )  # fmt: skip
    held_out, learned = inspector._split(paths, 0.25, 4)
    assert set(kept) == {int(path.stem) for path in learned}
    assert not set(kept) & {int(path.stem) for path in held_out}
    assert sorted(advanced) == ["image"] * 20 + ["step"] * 4
    assert made.fitted_on["synthetic_defects"] == 4
    assert "synthetic_defects" not in plain.fitted_on
    assert made.threshold != plain.threshold
    bundle.save(made, tmp_path / "part.metricad")
    again = bundle.load(tmp_path / "part.metricad")
    assert again.fitted_on == made.fitted_on
    image = images.read(paths[0])
    assert again.inspect(image)[0] == made.inspect(image)[0]


def test_of_many_images_some_are_drawn(small, paths, monkeypatch, kept):
    monkeypatch.setattr(adaptation, "MOST_IMAGES", 6)
    inspector.fit_inspector(paths, small, defects=2, false_alarm_rate=0.2, holdout=0.25)
    learned = [int(path.stem) for path in inspector._split(paths, 0.25, 0)[1]]
    assert len(set(kept)) == 6
    assert set(kept) < set(learned)
    assert set(kept) != set(learned[:6])  # files' order may mean something


def test_the_prototype_suits_the_network(small, paths):
    options = {"false_alarm_rate": 0.2, "holdout": 0.25}
    assert isinstance(inspector.fit_inspector(paths, small, **options).detector.prototype, AutoPrototype)
    papers = inspector.fit_inspector(paths, network.build(2, seed=0), **options)
    assert (papers.detector.prototype.kind, papers.detector.prototype.metric) == ("mean", "euclidean")


def test_as_a_method_of_an_evaluation(small, good):
    method = AdaptedDetector(TripletDetector(small, GaussianPrototype()), defects=4, seed=2).fit(iter(good))
    assert method.detector.prototype.kind == "head"
    found = method.anomaly_map(good[0])
    assert found.shape == (SIDE, SIDE)
    np.testing.assert_array_equal(found, method.detector.anomaly_map(good[0]))
    assert method.score(good[0]) == method.detector.score(good[0]) >= found.max()
