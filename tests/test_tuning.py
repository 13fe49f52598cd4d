"""The reduction that suits a part: measured with synthetic defects, changed only for good reason."""

import copy
import dataclasses
import itertools

import numpy as np
import pytest
from conftest import save, texture

from metricad import defects, metrics
from metricad.errors import DataError
from metricad.inspection import bundle, tuning
from metricad.inspection.tuning import BASE, Trial, choose, measure, tune
from metricad.preprocessing.regions import MaskRegion
from metricad.scoring.maps import REDUCTIONS, image_score

WIDTH = len(REDUCTIONS)


def trials(rng, count, *, gap, each=3, kinds=("stain", "gap")):
    """Normal scores; those of defects lie higher by so many standard deviations, for each reduction."""
    drawn = itertools.cycle(kinds)
    return [
        Trial(
            rng.standard_normal(WIDTH),
            rng.standard_normal((each, WIDTH)) + np.array(gap),
            [next(drawn) for _ in range(each)],
        )
        for _ in range(count)
    ]


class Salted:
    """A detector whose map is the image itself: one bright pixel of it is as bright as any defect."""

    region = None

    def distance_map(self, image):
        return np.abs(image)


def salted(rng, count):
    images = 0.05 * rng.standard_normal((count, 64, 64)).astype(np.float32)
    for image in images:
        image[tuple(rng.integers(0, 64, 2))] = rng.uniform(0.5, 1)
    return images


# What is measured.


def test_a_trial_holds_the_scores_under_every_reduction(fitted):
    image = texture(np.random.default_rng(50))
    before = image.copy()
    trial = measure(fitted.detector, image, rng=np.random.default_rng(4), each=3)
    rng = np.random.default_rng(4)
    versions = [defects.add_any(image, rng) for _ in range(3)]

    def scores(one):
        return [image_score(fitted.detector.distance_map(one), reduction) for reduction in REDUCTIONS]

    np.testing.assert_array_equal(trial.good, scores(image))
    np.testing.assert_array_equal(trial.defective, [scores(changed) for changed, _, _ in versions])
    assert list(trial.kinds) == [kind for _, _, kind in versions]
    np.testing.assert_array_equal(image, before)


def test_the_detectors_own_reduction_plays_no_part(fitted):
    image = texture(np.random.default_rng(50))
    other = tuning.apply(fitted, choose(trials(np.random.default_rng(0), 60, gap=(0, 0, 0, 4)),
                                        rng=np.random.default_rng(0))).detector  # fmt: skip
    assert other.reduction == "top-10%"
    one, two = (measure(each, image, rng=np.random.default_rng(4)) for each in (fitted.detector, other))
    np.testing.assert_array_equal(one.good, two.good)
    np.testing.assert_array_equal(one.defective, two.defective)


def test_defects_are_put_where_the_part_is_judged():
    detector = Salted()
    mask = np.zeros((64, 64), bool)
    mask[:, 40:] = True
    detector.region = MaskRegion(mask)
    seen = []
    detector.distance_map = lambda image: seen.append(image.copy()) or np.abs(image)
    image = np.zeros((64, 64), np.float32)
    measure(detector, image, rng=np.random.default_rng(0), each=10)
    changed = [np.abs(one - image) >= defects.VISIBLE for one in seen]
    changed = [one for one in changed if one.any()]
    assert len(changed) >= 8
    assert all(one[mask].sum() >= one[~mask].sum() for one in changed)


def test_aurocs_are_those_of_all_pairs():
    """Counted in a slow loop over the pairs of a good image and a defect, overall and by kind."""
    found = choose(
        made := trials(np.random.default_rng(1), 8, gap=(1, 0, 2, 0.5)), rng=np.random.default_rng(0)
    )
    good = np.array([trial.good for trial in made])
    bad = np.concatenate([trial.defective for trial in made])
    kinds = np.array([kind for trial in made for kind in trial.kinds])

    def slow(k, chosen):
        pairs = [(d > g) + 0.5 * (d == g) for g in good[:, k] for d in bad[chosen, k]]
        return sum(pairs) / len(pairs)

    assert list(found.aurocs) == list(REDUCTIONS)
    assert list(found.by_kind) == ["stain", "gap"]
    for k, reduction in enumerate(REDUCTIONS):
        assert found.aurocs[reduction] == pytest.approx(slow(k, np.full(len(bad), True)))
        for kind in found.by_kind:
            assert found.by_kind[kind][reduction] == pytest.approx(slow(k, kinds == kind))
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


def test_a_reduction_that_is_clearly_better_is_taken():
    found = choose(trials(np.random.default_rng(0), 40, gap=(0.5, 0.5, 2.5, 1)), rng=np.random.default_rng(0))
    assert found.reduction == "top-1%"
    assert found.gain == found.aurocs["top-1%"] - found.aurocs[BASE]
    assert 0 < found.least_gain < found.gain


def test_a_difference_within_chance_changes_nothing():
    """The same gap as above, yet so few images that it proves nothing; and a better one all the same."""
    few = choose(trials(np.random.default_rng(3), 3, gap=(1.5, 1.5, 1.9, 1.5)), rng=np.random.default_rng(0))
    assert max(few.aurocs, key=few.aurocs.get) != BASE
    assert few.reduction == BASE
    assert (few.gain, few.least_gain) == (0, 0)


def test_where_all_are_alike_the_papers_stays():
    same = [Trial(np.full(WIDTH, float(k)), np.full((2, WIDTH), k + 0.5), ["stain", "gap"]) for k in range(9)]
    found = choose(same, rng=np.random.default_rng(0))
    assert len(set(found.aurocs.values())) == 1
    assert found.reduction == BASE


def test_chance_alone_seldom_takes_another():
    """No reduction is better than another in 100 tries: the rule promises to leave the paper's in 1 of 20."""
    rng = np.random.default_rng(0)
    left = [choose(trials(rng, 20, gap=(1, 1, 1, 1)), rng=rng).reduction != BASE for _ in range(100)]
    assert sum(left) <= 10


def test_the_scores_kept_are_those_of_the_chosen():
    made = trials(np.random.default_rng(0), 40, gap=(0.5, 0.5, 2.5, 1))
    found = choose(made, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(found.good_scores, [trial.good[2] for trial in made])


def test_a_lone_bright_pixel_speaks_against_the_maximum():
    """From images to the choice: every good image has one, and a mean does not mind it."""
    found = tune(Salted(), salted(np.random.default_rng(0), 30), rng=np.random.default_rng(1))
    assert found.reduction in ("top-0.1%", "top-1%")
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
    with pytest.raises(DataError, match=f"two good images or more.* received {count} good images"):
        choose(made, rng=np.random.default_rng(0))


def test_without_defects_nothing_is_chosen():
    none = [Trial(np.zeros(WIDTH), np.zeros((0, WIDTH)), [])] * 3
    with pytest.raises(DataError, match="3 good images with 0 defects"):
        choose(none, rng=np.random.default_rng(0))


def test_no_defects_at_all_are_refused(fitted):
    with pytest.raises(ValueError, match="each must be 1 or more, received 0"):
        measure(fitted.detector, texture(np.random.default_rng(0)), rng=np.random.default_rng(0), each=0)


# What is made of it.


def test_the_threshold_is_set_anew_and_the_given_inspector_left(fitted):
    found = choose(trials(np.random.default_rng(0), 40, gap=(0.5, 0.5, 2.5, 1)), rng=np.random.default_rng(0))
    before = fitted.threshold
    made = tuning.apply(fitted, found, seed=7)
    assert (fitted.detector.reduction, fitted.threshold) == (BASE, before)
    assert made.detector.reduction == "top-1%"
    assert made.calibration.false_alarm_rate == fitted.calibration.false_alarm_rate
    # 40 images at a rate of 0.1: the ⌈41 · 0.9⌉-th smallest.
    assert made.threshold == sorted(found.good_scores)[36]
    assert made.fitted_on == {
        **fitted.fitted_on,
        "tuned_on": {"good_images": 40, "defects": 120, "seed": 7},
    }


def test_a_region_stays(fitted):
    detector = copy.copy(fitted.detector)
    detector.region = MaskRegion(np.ones((64, 64), bool))
    found = choose(trials(np.random.default_rng(0), 40, gap=(1, 1, 1, 1)), rng=np.random.default_rng(0))
    made = tuning.apply(dataclasses.replace(fitted, detector=detector), found)
    assert made.detector.region is detector.region


def test_too_few_images_set_no_threshold(fitted):
    found = choose(trials(np.random.default_rng(0), 8, gap=(1, 1, 1, 1)), rng=np.random.default_rng(0))
    with pytest.raises(DataError, match=r"a false-alarm rate of 0\.1 needs at least 9 held-out good images"):
        tuning.apply(fitted, found)


# The command line.


@pytest.fixture(scope="module")
def more_good(tmp_path_factory):
    """Good images that no inspector was fitted on."""
    folder = tmp_path_factory.mktemp("more")
    rng = np.random.default_rng(77)
    for number in range(12):
        save(folder / f"{number:02}.png", texture(rng))
    return folder


def test_tune_shows_what_it_weighed_and_writes_the_tuned_part(
    run_metricad, part, more_good, tmp_path, fitted
):
    out = tmp_path / "tuned.metricad"
    done = run_metricad("tune", part, more_good, "--out", out, "--defects", 3, "--seed", 2)
    assert (done.status, done.err) == (0, "")
    made = bundle.load(out)
    assert made.calibration.scores.shape == (12,)
    assert made.fitted_on["tuned_on"] == {"good_images": 12, "defects": 36, "seed": 2}
    header, *rows = [line.split() for line in done.out.splitlines()[1:] if len(line.split()) == 6]
    assert header == ["defect", "number", *REDUCTIONS]
    assert rows[-1][:2] == ["all", "36"]
    assert sum(int(row[1]) for row in rows[:-1]) == 36
    assert all(0 <= float(value) <= 1 for row in rows for value in row[2:])
    last = done.out.splitlines()[-1]
    assert last.startswith(f"{out}: ")
    assert made.detector.reduction in last
    assert last.endswith(f"threshold {made.threshold:.4g} from 12 good images, false-alarm rate at most 0.1")

    again = tmp_path / "again.metricad"
    run_metricad("tune", part, more_good, "--out", again, "--defects", 3, "--seed", 2)
    np.testing.assert_array_equal(bundle.load(again).calibration.scores, made.calibration.scores)


def test_tune_takes_another_where_it_is_better(run_metricad, part, more_good, tmp_path, monkeypatch):
    made = trials(np.random.default_rng(0), 12, gap=(0, 0, 6, 0))
    monkeypatch.setattr(tuning, "measure", lambda *arguments, **options: made.pop())
    done = run_metricad("tune", part, more_good, "--out", tmp_path / "t.metricad")
    assert "t.metricad: takes top-1%: AUROC 1.000 against 0." in done.out
    assert bundle.load(tmp_path / "t.metricad").detector.reduction == "top-1%"


def test_tune_refuses_too_few_images_as_calibration_does(refused, part, more_good, tmp_path):
    message = refused(
        "tune", part, more_good / "00.png", more_good / "01.png", "--out", tmp_path / "t.metricad"
    )
    assert message == (
        "error: a false-alarm rate of 0.1 needs at least 9 held-out good images; 2 allow a rate of 0.3334 at "
        "best\n"
    )
    assert not (tmp_path / "t.metricad").exists()


def test_tune_names_a_bad_image(refused, part, more_good, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    message = refused("tune", part, more_good, bad, "--out", tmp_path / "t.metricad")
    assert f"error: {bad}: " in message
    assert not (tmp_path / "t.metricad").exists()
