"""What lines and borders are worth beside a distance, and a detector that has them."""

import io

import numpy as np
import pytest
from conftest import repack, texture
from metricad.borders import ABSENT, DIRECTIONS
from metricad.evidence import Evidence, contrast
from metricad.lines import FAMILIES
from metricad.prototype import GaussianPrototype

from metricad import adaptation, evaluation, kinds
from metricad.errors import BundleError
from metricad.inspection import bundle
from metricad.inspection.detector import TripletDetector
from metricad.inspection.inspector import Inspector
from metricad.networks import hypercolumn
from metricad.networks import residual as network
from metricad.scoring.calibration import calibrate

SIDE = 96


def looks(seed, *, count=20, shape=(1, 50), border=1.0):
    """Distances and measures of images made up."""
    rng = np.random.default_rng(seed)
    distances = rng.lognormal(0, 0.1, (count, *shape)).astype(np.float32)
    lines = rng.normal(0, 1, (count, *shape, FAMILIES))
    strengths = rng.normal(border, 0.2, (count, *shape, DIRECTIONS))
    return list(zip(distances, np.concatenate([lines, strengths], -1).astype(np.float32), strict=True))


def settled(images):
    made = Evidence()
    made.settle((*image, 0.0, None) for image in images)
    return made


def slowly(images, image):
    """What `joined` is to give where edges are as interiors are, written down step by step."""
    distances, measures = (one.astype(float) for one in image)
    maxima = np.array([found.max(axis=(0, 1)) for _, found in images]).astype(float)
    mean, deviation = maxima.mean(axis=0), maxima.std(axis=0)
    deviation = np.maximum(deviation, [0.5] * FAMILIES + [0.05] * DIRECTIONS)
    rate = max(0.05, np.std([np.log(found.max()) for found, _ in images]))

    def border(measures):
        return ((measures[..., FAMILIES:] - mean[FAMILIES:]) / deviation[FAMILIES:]).max(axis=-1)

    strongest = np.array([border(found).max() for _, found in images])

    def border_beyond(measures):
        return (border(measures) - strongest.mean()) / max(strongest.std(), 0.5)

    def raised(distances, measures):
        lines = (measures[..., :FAMILIES] - mean[:FAMILIES]) / deviation[:FAMILIES]
        families = np.concatenate([lines, border_beyond(measures)[..., None]], axis=-1)
        return distances * (1 + rate * np.maximum(families + 0.5, 0).sum(axis=-1))

    largest = np.log([raised(*one).max() for one in images])
    beyond = border_beyond(measures)
    held = np.where(
        beyond > 0, max(largest.std(), 0.02) * beyond / (1 + np.maximum(beyond, 0) / 3), beyond / 2
    )
    claimed = np.exp(largest.mean() + held)
    return np.maximum(raised(distances, measures), claimed)


def test_joined_distances_are_those_written_down_step_by_step():
    images = looks(0)
    made = settled(images)
    distances, measures = looks(1)[0]
    measures[0, 3, 0] += 6  # a line
    measures[0, 7, FAMILIES + 2] += 2  # a border
    found = made.joined(distances, measures, 0.0)
    np.testing.assert_allclose(found, slowly(images, (distances, measures)), rtol=1e-4)
    assert found.argmax() == 7
    assert found[0, 3] > 1.2 * distances[0, 3]


def edged(images, *, distance, border):
    """The same with edges farther away, and with stronger borders along them."""
    found = []
    for distances, measures in images:
        rows, columns = np.indices(distances.shape)
        height, width = distances.shape
        depth = np.minimum(np.minimum(rows, height - 1 - rows), np.minimum(columns, width - 1 - columns))
        measures = measures.copy()
        measures[..., FAMILIES + 2] += border * (depth < 15)
        found.append((np.where(depth < 3, distance * distances, distances).astype(np.float32), measures))
    return found


@pytest.mark.parametrize(("distance", "border"), [(1.5, 1.0), (0.7, -1.0)])
def test_what_good_edges_have_more_or_less_of_is_taken_away(distance, border):
    shape = (60, 70)
    plain = looks(0, shape=shape)
    image = looks(1, shape=shape)[:1]
    other = settled(edged(plain, distance=distance, border=border))
    np.testing.assert_allclose(other.edge[:3, 0], np.log(distance), atol=0.1)
    np.testing.assert_allclose(other.edge[:15, 1 + FAMILIES + 2], border, atol=0.1)
    np.testing.assert_allclose(other.edge[3:, 0], 0, atol=0.1)
    np.testing.assert_allclose(np.delete(other.edge, [0, 1 + FAMILIES + 2], axis=1), 0, atol=0.1)
    np.testing.assert_allclose(
        other.joined(*edged(image, distance=distance, border=border)[0], 0.0),
        settled(plain).joined(*image[0], 0.0),
        rtol=0.1,
    )


def test_edges_without_an_interior_to_compare_with_are_as_they_are():
    narrow = edged(looks(0, shape=(80, 14)), distance=2, border=1)
    np.testing.assert_array_equal(settled(narrow).edge, 0)


def test_places_outside_a_region_say_nothing_of_the_edge():
    images = looks(0, shape=(60, 60))
    inside = np.ones((60, 60), bool)
    inside[:, :15] = False
    far = [
        (np.where(inside, distances, np.float32(9)), measures + np.float32(9) * ~inside[..., None])
        for distances, measures in images
    ]
    found = Evidence(), Evidence()
    for made, some in zip(found, (images, far), strict=True):
        made.settle((*one, 0.0, inside) for one in some)
    np.testing.assert_array_equal(found[0].edge, found[1].edge)
    assert found[0].edge.any()


def test_of_two_borders_the_stronger_is_farther_however_strong():
    made = settled(looks(0))
    distances, measures = looks(1)[0]
    measures = np.repeat(measures[:, :1], 5, axis=1)
    measures[0, :, FAMILIES] = [3, 4, 6, 9, 15]
    found = made.joined(distances[:, :5] * 0, measures, 0.0)[0]
    assert (np.diff(found) > 0).all()
    assert found[-1] < 2 * found[0]


def test_good_images_are_mostly_judged_by_their_distance():
    made = settled(looks(0))
    changed = [made.joined(one, measures, 0.0) / one - 1 for one, measures in looks(1)]
    assert np.median(changed) < 0.01


def test_lines_count_for_more_where_good_distances_vary_more():
    calm = looks(0)
    wild = [
        (one * np.float32(factor), found) for (one, found), factor in zip(calm, [0.5, 2] * 10, strict=True)
    ]
    distances, measures = looks(1)[0]
    measures[0, 3, 0] += 6
    calmly, wildly = (settled(one).joined(distances, measures, 0.0)[0, 3] for one in (calm, wild))
    assert wildly > 1.5 * calmly


@pytest.mark.parametrize("count", [1, 5])
def test_what_no_good_image_had_room_for_never_counts(count):
    images = looks(0, count=count)
    for _, measures in images:
        measures[..., FAMILIES + 1] = ABSENT
    distances, measures = looks(1)[0]
    made = settled(images)
    measures[0, 4, FAMILIES + 1] = 9
    found = made.joined(distances, measures, 0.0)
    measures[0, 4, FAMILIES + 1] = ABSENT
    np.testing.assert_array_equal(found, made.joined(distances, measures, 0.0))


def test_without_room_for_any_border_lines_count_alone():
    images = looks(0, border=ABSENT)
    for _, measures in images:
        measures[..., FAMILIES:] = ABSENT
    distances, measures = looks(1)[0]
    found = settled(images).joined(distances, measures, 0.0)
    assert np.isfinite(found).all()
    assert (found >= distances).all()
    assert found.max() < 2


@pytest.mark.parametrize("level", [0, 1])
def test_surface_that_never_varies_leaves_everything_finite(level):
    images = [(np.full((9, 9), level, np.float32), np.zeros((9, 9, FAMILIES + DIRECTIONS), np.float32))] * 3
    made = settled(images)
    np.testing.assert_allclose(made.joined(*images[0], 0.0), level, rtol=0.1, atol=1e-4)
    far = made.joined(
        np.ones((9, 9), np.float32), np.full((9, 9, FAMILIES + DIRECTIONS), 50, np.float32), 0.0
    )
    assert np.isfinite(far).all()


def test_before_it_is_settled_it_says_so():
    with pytest.raises(ValueError, match="settle"):
        Evidence().joined(
            np.ones((1, 9), np.float32), np.zeros((1, 9, FAMILIES + DIRECTIONS), np.float32), 0.0
        )


def trended(trend, *, count=40, seed=0):
    """Looks of images whose distances grow with their contrast by so much for each standard deviation."""
    contrasts = np.random.default_rng(seed).normal(-1, 0.3, count)
    factors = np.exp(trend * (contrasts + 1) / 0.3).astype(np.float32)
    found = zip(looks(seed, count=count, border=ABSENT), factors, contrasts, strict=True)
    return [(distances * factor, measures, one, None) for (distances, measures), factor, one in found]


@pytest.mark.parametrize("trend", [0.3, -0.2])
def test_distances_that_follow_an_images_contrast_are_judged_for_it(trend):
    made = Evidence()
    made.settle(trended(trend))
    # 10 images beside the 40 know nothing of it.
    np.testing.assert_allclose(made.trend, [-1, 0.3, 0.8 * trend], atol=0.07)
    distances, measures = looks(1, border=ABSENT)[0]
    plain, more, most, beyond = (made.joined(distances, measures, one) for one in (-1, -0.7, -0.4, 2))
    np.testing.assert_allclose(more, plain * np.exp(-made.trend[2]), rtol=0.1)
    np.testing.assert_allclose(beyond, most, rtol=0.05)  # held to two standard deviations, near enough


def test_contrast_that_never_varies_and_that_of_one_image_change_nothing():
    for images in (trended(0.3, count=1), [(*one[:2], -1.0, None) for one in trended(0.3)]):
        made = Evidence()
        made.settle(images)
        assert made.trend[2] == 0


def test_contrast_is_between_quartiles_and_knows_no_small_defect():
    light = np.random.default_rng(0).normal(0, 0.1, 10_000).astype(np.float32)
    assert abs(contrast(light) - np.log(1.349 * 0.1)) < 0.03
    spotted = light.copy()
    spotted[:200] = 1
    assert abs(contrast(spotted) - contrast(light)) < 0.03
    assert contrast(3 * light) == pytest.approx(contrast(light) + np.log(3), abs=1e-5)
    assert contrast(0 * light) == pytest.approx(np.log(1e-3))
    assert contrast(light[:1]) == pytest.approx(np.log(1e-3))


# On a detector.


@pytest.fixture(scope="module")
def model():
    return hypercolumn.build_three_scales(2, seed=0)


@pytest.fixture(scope="module")
def good():
    return [texture(np.random.default_rng(seed), side=SIDE) for seed in range(6)]


def scratched(image):
    image = image.copy()
    image[40:44] = 1
    return image


def made(model, good, **named):
    return TripletDetector(model, GaussianPrototype(), evidence=Evidence(), **named).fit(good)


def test_a_detector_joins_evidence_to_its_distances_and_fits_afresh(model, good):
    detector = made(model, good[::-1]).fit(good)
    alone = TripletDetector(model, GaussianPrototype()).fit(good)
    image = scratched(good[0])
    plain = alone.distance_map(image)
    seen = image[8::4, 8::4][:21, :21]
    expected = detector.evidence.joined(
        plain, detector.evidence.measures(image, plain), contrast(seen.ravel())
    )
    np.testing.assert_array_equal(detector.distance_map(image), expected)
    assert expected.max() > 1.1 * plain.max()
    np.testing.assert_array_equal(detector.evidence.levels, made(model, good).evidence.levels)


def test_outside_the_region_nothing_is_learned_from_or_claimed(model, good):
    class Left:
        kind = "left"

        def region(self, image):
            return np.arange(image.shape[1]) < np.full((image.shape[0], 1), SIDE // 2)

    spoiled = [image.copy() for image in good]
    for image in spoiled:
        image[:, 80:] = np.random.default_rng(0).choice([-1, 1], (SIDE, SIDE - 80))
    plain, other = (made(model, images, region=Left()).evidence for images in (good, spoiled))
    detector = made(model, good, region=Left())
    found = detector.distance_map(scratched(good[0]))
    inside = detector.inside(good[0], found.shape)
    assert (found[~inside] == 0).all()
    assert (found[inside] > 0).all()
    # Short lines, the first eight filters, reach 10 pixels, and what is spoiled lies 32 beyond the region.
    np.testing.assert_allclose(other.lines.centre[:8], plain.lines.centre[:8], rtol=1e-4)


@pytest.mark.parametrize("shape", [(68, 68), (69, 131), (203, 75)])
def test_the_smallest_images_and_odd_ones(model, shape):
    rng = np.random.default_rng(0)
    detector = made(model, rng.normal(0, 0.2, (4, *shape)).astype(np.float32))
    assert np.isfinite(detector.distance_map(rng.normal(0, 0.2, shape).astype(np.float32))).all()


def test_other_distances_can_settle_what_evidence_is_worth(model, good):
    detector = made(model, good)
    typical = detector.evidence.exchange[1]
    maps = [10 * detector._looks(image)[0] for image in good]
    detector.settle(good, maps)
    np.testing.assert_allclose(detector.evidence.exchange[1], typical + np.log(10), rtol=1e-3)


def test_adaptation_settles_by_images_that_are_new_to_a_head(model, good):
    detector = made(model, good)
    before = detector.evidence.exchange.copy()
    adaptation.adapt(detector, good, count=4)
    head, settled_so = detector.prototype, detector.evidence.exchange.copy()
    parts = [head.held_out_parts(detector.features(image), number) for number, image in enumerate(good)]
    detector.settle(good, [head.stretched(one) for one in parts])
    np.testing.assert_array_equal(detector.evidence.exchange, settled_so)
    assert not np.array_equal(settled_so, before)


def test_evaluation_settles_what_it_fits(model, good):
    detector = TripletDetector(model, GaussianPrototype(), evidence=Evidence())
    method = evaluation.Method("made", "trained", lambda: detector)
    surface = evaluation.Surface(
        "made",
        "up",
        tuple(sample(image) for image in good),
        (*(sample(image) for image in good), *(sample(scratched(image), "line") for image in good)),
    )
    evaluation.evaluate([method], surface, protocol=evaluation.Protocol(holdout=0))
    np.testing.assert_allclose(detector.evidence.exchange, made(model, good).evidence.exchange, rtol=1e-4)


def sample(image, kind="good"):
    name = f"{kind}{hash(image.tobytes())}"
    return evaluation.Sample(name, kind, lambda: image, lambda: image == 1)


@pytest.mark.parametrize("gathers", [False, True])
def test_evidence_and_gathering_are_kept_in_a_bundle(tmp_path, model, good, gathers):
    detector = made(model, good, gathers=gathers)
    bundle.save(Inspector(detector, calibrate([1.0, 2.0], 0.4)), tmp_path / "a.metricad")
    again = bundle.load(tmp_path / "a.metricad").detector
    image = scratched(good[0])
    np.testing.assert_array_equal(again.distance_map(image), detector.distance_map(image))
    again.gathers = not gathers
    assert not np.array_equal(again.distance_map(image), detector.distance_map(image))
    everywhere = np.ones((21, 21), bool)
    with pytest.raises(ValueError, match="restored evidence does not know"):
        again.evidence.update(image, everywhere)
    again.evidence.clear()
    again.evidence.update(image, everywhere)


def test_a_bundle_without_evidence_is_judged_without(tmp_path):
    model = network.build(2, seed=0)
    detector = TripletDetector(model, GaussianPrototype()).fit([texture(np.random.default_rng(0))] * 3)
    bundle.save(Inspector(detector, calibrate([1.0, 2.0], 0.4)), tmp_path / "a.metricad")
    assert bundle.load(tmp_path / "a.metricad").detector.evidence is None


@pytest.mark.parametrize(("version", "member"), [(3, "lines__centre"), (4, "evidence__levels")])
def test_a_bundle_whose_lines_were_judged_in_another_way_is_refused(tmp_path, model, good, version, member):
    detector = TripletDetector(model, GaussianPrototype()).fit(good)
    bundle.save(Inspector(detector, calibrate([1.0, 2.0], 0.4)), tmp_path / "a.metricad")
    named = {"manifest": {"format_version": version}}
    bundle.load(repack(tmp_path / "a.metricad", tmp_path / "b.metricad", **named))
    array = io.BytesIO()
    np.save(array, np.zeros(152, np.float32))
    older = repack(tmp_path / "a.metricad", tmp_path / "c.metricad", **{member: array.getvalue()}, **named)
    with pytest.raises(BundleError, match="looks for lines in another way; make it again"):
        bundle.load(older)


def test_evidence_is_looked_for_beside_the_accurate_network_alone(model):
    assert isinstance(kinds.evidence_for(model), Evidence)
    assert kinds.evidence_for(hypercolumn.build(2, seed=0)) is None
    assert kinds.evidence_for(network.build(2, seed=0)) is None
