"""The protocol: what is fitted, what is scored, what is written."""

import dataclasses

import numpy as np
import pytest

from metricad.data.datasets import Sample, Surface
from metricad.data.fingerprint import fingerprint
from metricad.errors import DataError
from tests.helpers import COLLECTING, scratched, texture

if not COLLECTING:
    from sklearn.metrics import average_precision_score, roc_auc_score

    from metricad.evaluation import candidates, protocol, surface_checks
    from metricad.evaluation.protocol import Method

pytestmark = pytest.mark.tf


class Brightness:
    """A detector that one can do in one's head: the score is the distance of the mean to the fitted mean."""

    def __init__(self):
        self.fitted = []

    def fit(self, images):
        self.fitted = [image.mean() for image in images]
        return self

    def anomaly_map(self, image):
        return np.abs(image - np.mean(self.fitted)).astype(np.float32)

    def score(self, image):
        return float(abs(image.mean() - np.mean(self.fitted)))


def sample(name, value, kind="good"):
    mask = None if kind == "good" else (lambda: np.eye(4, dtype=bool))
    return Sample(name, kind, lambda: np.full((4, 4), value, np.float32), mask)


@pytest.fixture
def surface():
    fit = tuple(sample(f"fit{i}", 0.1 * i) for i in range(3))
    good = [sample("good0", 0.1), sample("good1", 0.5)]
    defects = [sample(f"defect{i}", value, "hole") for i, value in enumerate((0.3, 0.8, -0.9))]
    return Surface("made", "flat", fit, (*good, *defects))


if not COLLECTING:
    METHOD = Method("brightness", "trained", Brightness, network="run", units=4, seed=3)


def judge(surface, method=None, **options):
    (found,) = protocol.evaluate([method or METHOD], surface, **options)
    return found


def test_fits_the_good_images_and_scores_the_test_images(surface):
    seen = []
    found = judge(surface, on_image=lambda: seen.append(1))
    expected = [0.0, 0.4, 0.2, 0.7, 1.0]
    result = found.result
    assert result.score_values == pytest.approx(expected, abs=1e-6)
    defect = [0, 0, 1, 1, 1]
    assert result.auroc == pytest.approx(roc_auc_score(defect, expected))
    assert result.average_precision == pytest.approx(average_precision_score(defect, expected))
    assert result.f1_max == pytest.approx(6 / 7)  # everything above 0.1: three hits, one false alarm
    assert result.fpr_at_95_tpr == pytest.approx(0.5)
    assert (result.fit_normals, result.held_out_normals) == (3, 0)
    assert (result.test_normals, result.test_defects) == (2, 3)
    assert (result.method, result.role, result.units, result.seed) == ("brightness", "trained", 4, 3)
    assert [row["kind"] for row in result.scores] == ["good", "good", "hole", "hole", "hole"]
    assert len(seen) == protocol.step_count([], surface) == 8
    assert found.cost.seconds_to_fit >= 0
    assert found.cost.milliseconds_per_image >= 0


def test_pixels_count_where_the_defect_is_known(surface):
    # Maps are constant, so defective pixels are ordered like their images.
    levels = np.array([0.0, 0.4, 0.2, 0.7, 1.0]).repeat(16)
    defect = np.concatenate([np.zeros(32, bool), *[np.eye(4, dtype=bool).ravel()] * 3])
    assert judge(surface).result.pixel_auroc == pytest.approx(roc_auc_score(defect, levels), abs=1e-3)
    assert 0 < judge(surface).result.aupro < 1

    def with_mask(read_mask):
        return dataclasses.replace(
            surface,
            test=tuple(
                dataclasses.replace(one, read_mask=read_mask) if one.is_defect else one
                for one in surface.test
            ),
        )

    def missing():
        raise DataError("damaged")

    assert judge(surface).result.masks == 3
    for nowhere in (
        None,
        missing,
        lambda: np.zeros((4, 4), bool),
        lambda: np.ones((4, 4), bool),
        lambda: np.eye(3, dtype=bool),
    ):
        result = judge(with_mask(nowhere)).result
        assert result.masks == 0
        assert (result.pixel_auroc, result.aupro) == (None, None)
        assert result.auroc == judge(surface).result.auroc


def test_pictures_are_the_best_the_median_the_worst_and_the_false_alarm(surface):
    shown = {example.role: example for example in judge(surface).examples}
    assert {role: example.name for role, example in shown.items()} == {
        "best": "defect2",
        "median": "defect1",
        "worst": "defect0",
        "false alarm": "good1",
    }
    np.testing.assert_allclose(shown["median"].anomaly_map, 0.7, atol=1e-6)
    np.testing.assert_array_equal(shown["median"].mask, np.eye(4, dtype=bool))
    assert shown["median"].score == pytest.approx(0.7)
    assert shown["false alarm"].mask is None or not shown["false alarm"].mask.any()
    assert judge(surface, pictured=["another"]).examples == []
    assert judge(surface, dataclasses.replace(METHOD, role="untrained")).examples == []


def test_pictures_of_large_images_are_reduced():
    large = [
        Sample(name, kind, lambda: np.linspace(-1, 1, 300 * 600, dtype=np.float32).reshape(300, 600), mask)
        for name, kind, mask in (
            ("a", "good", None),
            ("b", "hole", lambda: np.arange(600)[None].repeat(300, 0) < 300),
        )
    ]
    surface = Surface("made", "flat", tuple(large[:1]), tuple(large))
    example = judge(surface).examples[0]
    assert example.image.shape == example.anomaly_map.shape == example.mask.shape == (100, 200)
    assert example.mask[:, :100].all()
    assert not example.mask[:, 100:].any()


def test_held_out_images_give_the_threshold_and_no_others():
    good = tuple(sample(f"fit{i:02}", 0.01 * i) for i in range(100))
    surface = Surface("made", "flat", good, (sample("good", 0.5), sample("bad", -0.9, "hole")))
    result = judge(surface, protocol=protocol.Protocol(holdout=0.25, false_alarm_rate=0.1)).result
    fit, held_out = protocol.Protocol(holdout=0.25, false_alarm_rate=0.1).split(good)
    assert (result.fit_normals, result.held_out_normals) == (len(fit), len(held_out)) == (75, 25)
    assert not {one.name for one in fit} & {one.name for one in held_out}
    values = {one.name: 0.01 * i for i, one in enumerate(good)}
    mean = np.mean([values[one.name] for one in fit])
    distances = sorted(abs(values[one.name] - mean) for one in held_out)
    assert result.threshold == pytest.approx(distances[24 - 1], abs=1e-6)  # rank ceil(26 · 0.9) of 25
    assert result.false_alarm_rate == 0.1
    assert result.scores[0]["score"] == pytest.approx(abs(0.5 - mean), abs=1e-6)


def test_too_few_good_images_for_the_rate_are_all_fitted_to(surface):
    result = judge(surface, protocol=protocol.Protocol(holdout=0.4, false_alarm_rate=0.05)).result
    assert (result.fit_normals, result.held_out_normals) == (3, 0)
    assert (result.threshold, result.false_alarm_rate) == (None, None)


@pytest.mark.parametrize(("holdout", "rate"), [(1, 0.1), (-0.1, 0.1), (0.2, 0), (0.2, 1)])
def test_a_protocol_out_of_range_is_refused(holdout, rate):
    with pytest.raises(ValueError, match="must lie"):
        protocol.Protocol(holdout=holdout, false_alarm_rate=rate)


def test_a_fitted_detector_is_left_as_it_is(surface):
    ready = Brightness()
    ready.fitted = [0.5]
    method = Method("ready", "bundle", lambda: ready, is_fitted=True, threshold=0.25, false_alarm_rate=0.01)
    result = judge(surface, method, protocol=protocol.Protocol(holdout=0.5, false_alarm_rate=0.5)).result
    assert ready.fitted == [0.5]
    assert (result.fit_normals, result.held_out_normals) == (0, 0)
    assert (result.threshold, result.false_alarm_rate) == (0.25, 0.01)


def test_methods_side_by_side_get_the_same_scores_as_alone(run_folder):
    rng = np.random.default_rng(0)
    read = []

    def counted(name, image, kind="good"):
        return Sample(name, kind, lambda: (read.append(name), image)[1])

    images = [texture(rng) for _ in range(8)]
    surface = Surface(
        "made",
        "stripes",
        tuple(counted(f"fit{i}", image) for i, image in enumerate(images[:4])),
        (
            *(counted(f"good{i}", image) for i, image in enumerate(images[4:6])),
            *(counted(f"bad{i}", scratched(image, 20, 30), "hole") for i, image in enumerate(images[6:])),
        ),
    )
    together = candidates.of_run(run_folder, ["mean", "gaussian"], metrics=["euclidean", "manhattan"])
    found = protocol.evaluate(together, surface, pictured=[])
    assert [one.result.method for one in found] == ["mean euclidean", "mean manhattan", "gaussian"] * 2
    assert set(read) == {*(f"fit{i}" for i in range(4)), "good0", "good1", "bad0", "bad1"}
    for number, method in enumerate(candidates.of_run(run_folder, ["mean", "gaussian"])):
        alone = judge(surface, method).result
        expected = [found[k].result for k in (0, 2, 3, 5)][number]
        assert (alone.method, alone.role) == (expected.method, expected.role)
        assert alone.score_values == expected.score_values


def test_a_surface_is_known_to_networks_that_learned_its_good_images(surface):
    def known(seen):
        return judge(surface, dataclasses.replace(METHOD, seen=seen)).result.is_known

    assert known(None) is None
    assert known([]) is False
    assert known([{"dataset": "made", "labelled": {"flat": ["fit0"]}}]) is True
    assert known([{"dataset": "made", "labelled": {"wood": ["fit0"]}}]) is False
    assert known([{"dataset": "other", "labelled": {"flat": ["good1"]}}]) is False
    with pytest.raises(DataError, match="1 test images of flat were trained on"):
        known([{"dataset": "made", "labelled": {"flat": ["good1"]}}])


def test_a_score_that_is_no_number_is_named(surface):
    class Broken(Brightness):
        def score(self, image):
            return float("nan")

    with pytest.raises(DataError, match="made: flat, brightness: 5 of 5 scores are not finite"):
        judge(surface, dataclasses.replace(METHOD, make=Broken))


@pytest.mark.parametrize("kinds", [["good"], ["hole"], []])
def test_a_surface_without_both_kinds_is_refused(surface, kinds):
    test = tuple(one for one in surface.test if one.kind in kinds)
    with pytest.raises(DataError, match="an AUROC needs both"):
        judge(dataclasses.replace(surface, test=test))


def test_a_network_is_not_tested_on_what_it_was_trained_on(surface):
    def record(*names, dataset="made"):
        return [{"dataset": dataset, "labelled": {"flat": list(names)}}]

    surface_checks.check_unseen(surface, record("fit0", "fit1"))
    surface_checks.check_unseen(surface, record("good1", dataset="another"))
    with pytest.raises(DataError, match="1 test images of flat were trained on \\(good1"):
        surface_checks.check_unseen(surface, record("fit0", "good1"))


def test_a_network_is_not_tested_on_what_it_was_trained_on_under_another_name(surface):
    """The same files in another configuration of a data set, or in a folder of textures."""

    def judged(*samples):
        prints = [fingerprint(one.read()) for one in samples]
        seen = [{"dataset": "copied", "labelled": {}, "fingerprints": prints}]
        return judge(surface, dataclasses.replace(METHOD, seen=seen))

    assert judged(surface.fit[0]).result.is_known
    assert not judged().result.is_known
    with pytest.raises(DataError, match="the same pixels are in copied"):
        judged(surface.fit[0], surface.test[-1])


# What cannot be used.


def broken(name, kind="good"):
    def read():
        raise DataError(f"folder/{name}: damaged; copy it anew")

    return Sample(name, kind, read)


class Particular(Brightness):
    """Refuses bright images."""

    def score(self, image):
        if image.mean() > 0.6:
            raise DataError("too bright")
        return super().score(image)


def test_a_bad_image_is_left_out_for_every_method(surface):
    steps = []
    more = dataclasses.replace(surface, fit=(*surface.fit, *(sample(f"more{i}", 0.2) for i in range(40))))
    bad = dataclasses.replace(more, fit=(broken("fit-1"), *more.fit))
    methods = [METHOD, dataclasses.replace(METHOD, name="particular", make=Particular)]
    found = [one.result for one in protocol.evaluate(methods, bad, on_image=lambda: steps.append(1))]
    assert found[0].left_out == found[1].left_out == [
        {"name": "fit-1", "what": "image", "reason": "damaged; copy it anew"},
        {"name": "defect1", "what": "image", "reason": "too bright"},
    ]  # fmt: skip
    assert len(steps) == protocol.step_count(methods, bad)
    without = dataclasses.replace(more, test=tuple(one for one in more.test if one.name != "defect1"))
    expected = judge(without).result
    assert found[0] == dataclasses.replace(expected, left_out=found[0].left_out)
    assert (found[1].test_normals, found[1].test_defects, found[1].masks) == (2, 2, 2)


def test_too_many_bad_images_are_an_error_and_so_is_a_class_without_any(surface):
    good = tuple(sample(f"more{i}", 0.2) for i in range(33))
    bad = dataclasses.replace(surface, fit=(*good, broken("bad0"), broken("bad1")))  # of 40 images
    assert len(judge(bad).result.left_out) == 2
    with pytest.raises(DataError, match="3 of 40 images cannot be used"):
        judge(dataclasses.replace(bad, fit=(broken("bad2"), *bad.fit[1:])))
    with pytest.raises(DataError, match="an AUROC needs both"):
        judge(dataclasses.replace(surface, test=(*surface.test[:2], broken("defect", "hole"))))
    refused, particular = sample("defect", 0.7, "hole"), dataclasses.replace(METHOD, make=Particular)
    with pytest.raises(DataError, match="an AUROC needs both"):
        judge(dataclasses.replace(surface, test=(*surface.test[:2], refused)), particular)
