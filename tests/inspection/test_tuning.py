"""The score that suits a part: measured with synthetic defects, changed only for good reason."""

import copy
import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from metricad.errors import DataError
from metricad.metrics import image as metrics
from metricad.preprocessing.regions import MaskRegion
from metricad.scoring.score_names import SCORES
from metricad.synthetic import defects
from tests.helpers import COLLECTING, save, surface, texture

if not COLLECTING:
    from metricad.inspection import bundle, tuning
    from metricad.inspection.tuning import Trial, choices, choose, measure, tune

pytestmark = pytest.mark.tf

ALL = "all"
TRIED = [(score, ALL) for score in SCORES]
BASE = TRIED[0]


def trials(rng, count, *, gap, each=3, kinds=("stain", "gap")):
    """Normal values; those of defects lie higher by so many standard deviations, for each choice."""
    drawn = itertools.cycle(kinds)
    return [
        Trial(
            rng.standard_normal(len(gap)),
            rng.standard_normal((each, len(gap))) + np.array(gap),
            [next(drawn) for _ in range(each)],
        )
        for _ in range(count)
    ]


def chosen(made, seed=0):
    return choose(made, TRIED, rng=np.random.default_rng(seed))


class Salted:
    """A detector whose map is the image itself: one bright pixel of it is as bright as any defect."""

    region = None
    score_name = "max"
    features = SimpleNamespace(sources=[SimpleNamespace(kind="network")])

    def maps_by_kind(self, image):
        return {"network": np.abs(image)}, None


def salted(rng, count):
    images = 0.05 * rng.standard_normal((count, 64, 64)).astype(np.float32)
    for image in images:
        image[tuple(rng.integers(0, 64, 2))] = rng.uniform(0.5, 1)
    return images


# What is measured.


def test_the_detectors_own_score_comes_first_and_every_choice_once(fitted, free_part):
    assert choices(fitted.detector) == TRIED
    detector = free_part[0].detector
    found = choices(detector)
    assert found[0] == (detector.score_name, ALL) == ("top-1%", ALL)
    assert len(found) == len(set(found))
    assert set(found) == set(itertools.product(SCORES, (ALL, "network", "color", "lines")))


@pytest.mark.slow
def test_a_trial_holds_the_largest_values_under_every_choice(free_part):
    detector = free_part[0].detector
    image = surface(np.random.default_rng(50), (96, 96), color=True)
    before = image.copy()
    trial = measure(detector, image, rng=np.random.default_rng(4), each=3)
    rng = np.random.default_rng(4)
    versions = [defects.add_any(image, rng) for _ in range(3)]
    every = [source.kind for source in detector.features.sources]
    # The network's four, and one more of each kind: a graph is made for each of them.
    named = list(choices(detector))
    some = [k for k, (score, group) in enumerate(named) if group == "network" or score == "top-1%"]
    detectors = [
        detector.with_score(score, every if group == ALL else [group], center=0.0, spread=1.0)
        for score, group in (named[k] for k in some)
    ]

    def values(one):
        return [each.score(one) for each in detectors]

    np.testing.assert_allclose(np.array(trial.good)[some], values(image), rtol=1e-4, atol=1e-3)
    expected = [values(changed) for changed, _, _ in versions]
    np.testing.assert_allclose(np.array(trial.defective)[:, some], expected, rtol=1e-4, atol=1e-3)
    assert list(trial.kinds) == [kind for _, _, kind in versions]
    np.testing.assert_array_equal(image, before)


def test_the_own_choice_is_the_score_before_it_is_standardized(free_part, fitted):
    for inspector, color in ((free_part[0], True), (fitted, False)):
        image = surface(np.random.default_rng(50), (96, 96), color=color)
        trial = measure(inspector.detector, image, rng=np.random.default_rng(4), each=1)
        score = inspector.detector.score(image)
        assert trial.good[0] == pytest.approx(inspector.detector.map_value(score), rel=1e-3, abs=1e-3)


def test_values_are_taken_inside_the_region_and_defects_put_there():
    detector = Salted()
    mask = np.zeros((64, 64), bool)
    mask[:, 40:] = True
    detector.region = MaskRegion(mask)
    seen = []
    detector.maps_by_kind = lambda image: (seen.append(image.copy()), ({"network": np.abs(image)}, mask))[1]
    image = np.zeros((64, 64), np.float32)
    image[10, 10] = 1  # outside
    trial = measure(detector, image, rng=np.random.default_rng(0), each=10)
    assert trial.good[0] == 0
    changed = [np.abs(one - image) >= defects.VISIBLE for one in seen]
    changed = [one for one in changed if one.any()]
    assert len(changed) >= 8
    assert all(one[mask].sum() >= one[~mask].sum() for one in changed)


def test_aurocs_are_those_of_all_pairs():
    """Counted in a slow loop over the pairs of a good image and a defect, overall and by kind."""
    made = trials(np.random.default_rng(1), 8, gap=(1, 0, 2, 0.5))
    found = chosen(made)
    good = np.array([trial.good for trial in made])
    bad = np.concatenate([trial.defective for trial in made])
    kinds = np.array([kind for trial in made for kind in trial.kinds])

    def slow(k, those):
        pairs = [(d > g) + 0.5 * (d == g) for g in good[:, k] for d in bad[those, k]]
        return sum(pairs) / len(pairs)

    assert list(found.aurocs) == TRIED
    assert list(found.by_kind) == ["stain", "gap"]
    for k, choice in enumerate(TRIED):
        assert found.aurocs[choice] == pytest.approx(slow(k, np.full(len(bad), True)))
        for kind in found.by_kind:
            assert found.by_kind[kind][choice] == pytest.approx(slow(k, kinds == kind))
    assert found.counts == {"stain": 12, "gap": 12}


def test_resampled_aurocs_are_those_of_the_resampled_images():
    """Against a slow loop that writes every image out as often as it was drawn, with its defects."""
    rng = np.random.default_rng(2)
    good = rng.integers(0, 5, 6).astype(float)  # with ties
    owner = np.array([0, 0, 1, 3, 3, 3, 5])
    defective = rng.integers(2, 7, len(owner)).astype(float)
    weights = rng.multinomial(6, np.full(6, 1 / 6), 40)
    fast = tuning._resampled_auroc(good, defective, owner, weights)
    for weight, area in zip(weights, fast, strict=True):
        normal = np.repeat(good, weight)
        bad = np.repeat(defective, weight[owner])
        labels = [False] * len(normal) + [True] * len(bad)
        expected = metrics.auroc(labels, [*normal, *bad]) if len(bad) else 0.5
        assert area == pytest.approx(expected)


# What is chosen.


def test_a_choice_that_is_clearly_better_is_taken():
    made = trials(np.random.default_rng(0), 40, gap=(0.5, 0.5, 2.5, 1))
    found = chosen(made)
    assert (found.base, found.choice) == (BASE, ("top-1%", ALL))
    assert found.gain == found.aurocs["top-1%", ALL] - found.aurocs[BASE]
    assert 0 < found.least_gain < found.gain
    np.testing.assert_array_equal(found.good, [trial.good[2] for trial in made])


def test_a_difference_within_chance_changes_nothing():
    """Too few images to prove anything; and another is better all the same."""
    made = trials(np.random.default_rng(3), 3, gap=(1.5, 1.5, 1.9, 1.5))
    few = chosen(made)
    assert max(few.aurocs, key=few.aurocs.get) != BASE
    assert few.choice == BASE
    assert (few.gain, few.least_gain) == (0, 0)
    np.testing.assert_array_equal(few.good, [trial.good[0] for trial in made])


def test_where_all_are_alike_the_base_stays():
    same = [Trial(np.full(4, float(k)), np.full((2, 4), k + 0.5), ["stain", "gap"]) for k in range(9)]
    found = chosen(same)
    assert len(set(found.aurocs.values())) == 1
    assert found.choice == BASE


def test_chance_alone_seldom_takes_another():
    """No choice is better than another in 40 tries: the rule promises to leave the base in 1 of 20."""
    rng = np.random.default_rng(0)
    found = [choose(trials(rng, 20, gap=(1, 1, 1, 1)), TRIED, rng=rng).choice for _ in range(40)]
    assert sum(choice != BASE for choice in found) <= 5


def test_a_lone_bright_pixel_speaks_against_the_maximum():
    """From images to the choice: every good image has one, and a mean does not mind it."""
    found = tune(Salted(), salted(np.random.default_rng(0), 30), rng=np.random.default_rng(1))
    assert found.choice in (("top-0.1%", ALL), ("top-1%", ALL))
    assert found.gain > 0.1
    assert sum(found.counts.values()) == 150
    assert set(found.by_kind) <= set(defects.KINDS)


def test_the_seed_makes_the_choice_again(fitted):
    images = [texture(np.random.default_rng(seed)) for seed in range(60, 66)]
    one, same, other = (tune(fitted.detector, iter(images), rng=np.random.default_rng(s)) for s in (5, 5, 6))
    assert (one.aurocs, one.counts) == (same.aurocs, same.counts)
    assert one.aurocs != other.aurocs
    assert sum(one.counts.values()) == 30


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_choose_nothing(count):
    made = trials(np.random.default_rng(0), count, gap=(1, 1, 1, 1))
    with pytest.raises(DataError, match=f"at least two good images.* received {count} good images"):
        chosen(made)


def test_without_defects_nothing_is_chosen():
    none = [Trial(np.zeros(4), np.zeros((0, 4)), [])] * 3
    with pytest.raises(DataError, match="3 good images with 0 defects"):
        chosen(none)


def test_no_defects_at_all_are_refused(fitted):
    with pytest.raises(ValueError, match="each must be 1 or more, received 0"):
        measure(fitted.detector, texture(np.random.default_rng(0)), rng=np.random.default_rng(0), each=0)


# What is made of it.


def test_the_threshold_is_set_anew_and_the_given_inspector_left(fitted):
    found = chosen(trials(np.random.default_rng(0), 40, gap=(0.5, 0.5, 2.5, 1)))
    before = fitted.detector.score_name, fitted.threshold
    made = tuning.apply(fitted, found, seed=7)
    assert (fitted.detector.score_name, fitted.threshold) == before == ("max", before[1])
    assert made.detector.score_name == "top-1%"
    assert made.calibration.false_alarm_rate == fitted.calibration.false_alarm_rate
    # 40 images at a rate of 0.1: the ⌈41 · 0.9⌉-th smallest; distances to a mean stay distances.
    assert made.threshold == sorted(found.good)[36]
    assert made.fitted_on == {
        **fitted.fitted_on,
        "tuned_on": {"good_images": 40, "defects": 120, "score": "top-1%", "sources": ALL, "seed": 7},
    }


def tuned_to(inspector, made, choice):
    """An inspector tuned to a choice, whatever the defects say for another."""
    found = choose(made, choices(inspector.detector), rng=np.random.default_rng(0))
    number = choices(inspector.detector).index(choice)
    good = np.array([trial.good[number] for trial in made])
    return tuning.apply(inspector, dataclasses.replace(found, choice=choice, good=good))


def measured(inspector, images):
    rng = np.random.default_rng(0)
    return [measure(inspector.detector, image, rng=rng, each=1) for image in images]


@pytest.fixture(scope="module")
def unseen(free_part):
    """Good images in color, and what is measured on them."""
    rng = np.random.default_rng(60)
    images = [surface(rng, (96, 96), color=True) for _ in range(10)]
    return images, measured(free_part[0], images)


@pytest.mark.parametrize("choice", [("top-10%", ALL), ("max", "network"), ("top-1%", "color")])
def test_the_tuned_scores_are_on_the_scale_of_their_threshold(free_part, unseen, tmp_path, choice):
    images, made = unseen
    tuned = tuned_to(free_part[0], made, choice)
    scores = [tuned.detector.score(image) for image in images]
    np.testing.assert_allclose(tuned.calibration.scores, sorted(scores), atol=2e-3)
    assert np.mean(scores) == pytest.approx(0, abs=1e-2)
    assert np.std(scores) == pytest.approx(1, abs=1e-2)
    assert max(scores) >= tuned.threshold - 2e-3
    if choice[1] != ALL:
        kinds = {source.name: source.kind for source in tuned.detector.features.sources}
        assert {kinds[tuned.detector.judge(image).source] for image in images} == {choice[1]}
    bundle.save(tuned, tmp_path / "tuned.metricad")
    again = bundle.load(tmp_path / "tuned.metricad")
    assert again.inspect(images[0])[0] == tuned.inspect(images[0])[0]
    assert again.fitted_on == tuned.fitted_on


def test_the_tuned_distances_are_on_the_scale_of_their_threshold(fitted):
    images = [texture(np.random.default_rng(seed)) for seed in range(60, 72)]
    tuned = tuned_to(fitted, measured(fitted, images), ("top-10%", ALL))
    scores = [tuned.detector.score(image) for image in images]
    np.testing.assert_allclose(tuned.calibration.scores, sorted(scores), rtol=1e-5)
    assert max(scores) < min(fitted.detector.score(image) for image in images)


def test_a_region_stays(fitted):
    detector = copy.copy(fitted.detector)
    detector.region = MaskRegion(np.ones((64, 64), bool))
    found = chosen(trials(np.random.default_rng(0), 40, gap=(1, 1, 1, 1)))
    made = tuning.apply(dataclasses.replace(fitted, detector=detector), found)
    assert made.detector.region is detector.region


def test_of_too_few_images_the_largest_score_is_the_threshold(fitted):
    found = chosen(trials(np.random.default_rng(0), 8, gap=(1, 1, 1, 1)))
    made = tuning.apply(fitted, found).calibration
    assert (made.false_alarm_rate, made.asked_rate) == (1 / 9, 0.1)
    assert made.threshold == made.scores.max()


def test_the_table_has_a_line_for_each_choice_and_a_column_for_each_kind():
    found = chosen(trials(np.random.default_rng(1), 8, gap=(1, 0, 2, 0.5)))
    header, numbers, *rows = tuning.table(found)
    assert header == ["score", "sources", "all", "stain", "gap"]
    assert numbers[2:] == ["24", "12", "12"]
    assert [tuple(row[:2]) for row in rows] == TRIED
    for row, choice in zip(rows, TRIED, strict=True):
        expected = [found.aurocs[choice], *(each[choice] for each in found.by_kind.values())]
        np.testing.assert_allclose([float(cell) for cell in row[2:]], expected, atol=5e-4)


# The command line.


@pytest.fixture(scope="module")
def more_good(tmp_path_factory):
    """Good images that no inspector was fitted on."""
    folder = tmp_path_factory.mktemp("more")
    rng = np.random.default_rng(77)
    for number in range(12):
        save(folder / f"{number:02}.png", texture(rng))
    return folder


def test_tune_shows_what_it_weighed_and_writes_the_tuned_part(run_metricad, part, more_good, tmp_path):
    out = tmp_path / "tuned.metricad"
    done = run_metricad("tune", part, more_good, "--out", out, "--defects-per-image", 3, "--seed", 2)
    assert (done.status, done.err) == (0, "")
    made = bundle.load(out)
    assert made.calibration.scores.shape == (12,)
    kept = made.fitted_on["tuned_on"]
    assert (kept["good_images"], kept["defects"], kept["seed"]) == (12, 36, 2)
    assert kept["score"] == made.detector.score_name
    rows = [line.split() for line in done.out.splitlines() if line.split()[:1] and line.split()[0] in SCORES]
    assert [row[0] for row in rows] == list(SCORES)
    assert all(0 <= float(value) <= 1 for row in rows for value in row[2:])
    last = " ".join(done.out.splitlines()[-2:])
    assert made.detector.score_name in last
    assert f"threshold {made.threshold:.4g} from 12 good images; false-alarm rate 0.1 expected" in last

    again = tmp_path / "again.metricad"
    run_metricad("tune", part, more_good, "--out", again, "--defects-per-image", 3, "--seed", 2)
    np.testing.assert_array_equal(bundle.load(again).calibration.scores, made.calibration.scores)


def test_tune_takes_another_where_it_is_better(run_metricad, part, more_good, tmp_path, monkeypatch):
    made = trials(np.random.default_rng(0), 12, gap=(0, 0, 6, 0))
    monkeypatch.setattr(tuning, "measure", lambda *arguments, **options: made.pop())
    done = run_metricad("tune", part, more_good, "--out", tmp_path / "t.metricad")
    assert "t.metricad: takes top-1%" in done.out
    assert bundle.load(tmp_path / "t.metricad").detector.score_name == "top-1%"


def test_tune_refuses_too_few_images_as_prototype_does(refused, part, more_good, tmp_path):
    message = refused(
        "tune", part, more_good / "00.png", more_good / "01.png", "--out", tmp_path / "t.metricad"
    )
    assert "2 good images are too few" in message
    assert not (tmp_path / "t.metricad").exists()


def test_tune_names_a_bad_image(refused, part, more_good, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    message = refused("tune", part, more_good, bad, "--out", tmp_path / "t.metricad")
    assert f"error: {bad}: " in message
    assert not (tmp_path / "t.metricad").exists()
