"""The detector of a part: from good images to distances, score, peak and source."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from metricad.data.channels import to_luminance
from metricad.density import Kind
from metricad.errors import DataError
from metricad.inspection import tiling
from metricad.inspection.interface import Detector
from metricad.preprocessing.regions import MaskRegion
from metricad.scoring import anomaly_maps
from metricad.scoring.score_names import DEFAULT, SCORES
from tests.helpers import COLLECTING

if not COLLECTING:
    from metricad.inspection import fit_detector
    from metricad.inspection.detector import PartDetector
    from metricad.inspection.model import COLOR, LINES, NETWORK
    from metricad.networks import factory, hypercolumn, line_filters, pretrained, residual
    from metricad.scoring.score import ImageScore, top_mean

pytestmark = pytest.mark.tf

SHAPE = (96, 104)


def grain(seed, shape=SHAPE, *, size=1.0):
    """A texture that is another in every image: noise with a grain of some size, float32 in [-1, 1]."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), size)
    return (0.3 * noise / noise.std()).clip(-1, 1).astype(np.float32)


def registered(seed, shape=SHAPE):
    """A pattern that is the same in every image, with a little grain on it."""
    return (grain(1000, shape, size=2) + 0.2 * grain(seed, shape)).clip(-1, 1)


def colored(seed, shape=SHAPE):
    """A brown texture: float32 (H, W, 3), noise of its own in each channel."""
    light = 0.5 * grain(seed, shape)[..., np.newaxis]
    noise = 0.02 * np.random.default_rng(seed).standard_normal((*shape, 3))
    return (light + np.array([0.2, 0, -0.2]) + noise).clip(-1, 1).astype(np.float32)


def spotted(image, row, column, *, side=8):
    """The same with a checkered spot whose middle is given."""
    image = image.copy()
    spot = image[row - side // 2 : row + side // 2, column - side // 2 : column + side // 2]
    spot[::2], spot[1::2] = 1, -1
    return image


def stained(image, rows, columns):
    """The same with a stain of another hue and of the same luminance."""
    changed = image.copy()
    changed[rows, columns] += np.float32([-0.25, 0.25 * 0.2125 / 0.7154, 0])
    np.testing.assert_allclose(to_luminance(changed), to_luminance(image), atol=1e-5)
    return changed


def images(draw, count, shape=SHAPE):
    return [draw(seed, shape) for seed in range(count)]


@pytest.fixture(scope="module")
def paper():
    return residual.build(4, seed=3)


@pytest.fixture(scope="module")
def small():
    return hypercolumn.build(4, seed=0)


@pytest.fixture(scope="module")
def fast():
    return pretrained.load("fast")


@pytest.fixture(scope="module")
def plain(fast):
    """One Gaussian."""
    return PartDetector(fast, "gaussian").fit(images(grain, 8))


@pytest.fixture(scope="module")
def sides(fast):
    """One Gaussian on images of several sizes."""
    shapes = [(80, 90), (96, 96), (120, 70), (80, 90), (100, 131), (96, 96)]
    return PartDetector(fast, "gaussian").fit([grain(seed, shape) for seed, shape in enumerate(shapes)])


@pytest.fixture(scope="module")
def three_scales():
    """One Gaussian for each of the sources of a network on three scales."""
    return PartDetector(hypercolumn.build_three_scales(2, seed=0), "gaussian").fit(images(grain, 6))


@pytest.fixture(scope="module")
def in_color(small):
    return PartDetector(small, "gaussian").fit(images(colored, 8))


@pytest.fixture(scope="module")
def in_gray(small):
    """The same, of the luminance alone."""
    return PartDetector(small, "gaussian", is_gray=True).fit(images(colored, 8))


# The paper's method.


@pytest.mark.parametrize(("metric", "order"), [("euclidean", 2), ("manhattan", 1)])
def test_the_mean_on_the_papers_network_is_that_of_numpy(paper, metric, order):
    good = images(grain, 4)
    detector = PartDetector(paper, "mean", metric=metric).fit(good)
    features = [paper.predict(image[None, ..., None], verbose=0)[0].astype(float) for image in good]
    mean = np.concatenate([one.reshape(-1, 4) for one in features]).mean(axis=0)
    image = spotted(grain(99), 40, 60)
    away = paper.predict(image[None, ..., None], verbose=0)[0] - mean
    expected = np.linalg.norm(away, ord=order, axis=-1)
    found = detector.judge(image)
    assert found.score == pytest.approx(expected.max(), rel=1e-5)
    np.testing.assert_allclose(found.anomaly, expected, rtol=1e-5)
    np.testing.assert_allclose(detector.distances(image)[..., 0], expected, rtol=1e-5)
    np.testing.assert_allclose(
        detector.anomaly_map(image), anomaly_maps.place(found.anomaly, SHAPE, residual.GRID), atol=1e-6
    )
    row, column = np.unravel_index(expected.argmax(), expected.shape)
    assert found.peak == (row * residual.STRIDE + 16, column * residual.STRIDE + 16)
    assert detector.map_value(1.5) == 1.5


def test_the_mean_at_each_position_is_that_of_numpy(paper):
    good = images(grain, 4)
    detector = PartDetector(paper, "positional-mean").fit(good)
    image = spotted(grain(99), 40, 60)
    own, *features = (
        paper.predict(one[None, ..., None], verbose=0)[0].astype(float) for one in (image, *good)
    )
    expected = np.linalg.norm(own - np.mean(features, axis=0), axis=-1)
    np.testing.assert_allclose(detector.judge(image).anomaly, expected, rtol=1e-4)
    assert detector.needs_positions
    with pytest.raises(DataError, match="96×104"):
        detector.score(grain(0, (80, 80)))


def test_the_mean_keeps_the_light_as_it_is_and_color_images_gray(paper):
    detector = PartDetector(paper).fit(images(colored, 3))
    assert detector.settings["channels"] == 1
    assert detector.settings["curve"] == "linear"
    gray = PartDetector(paper).fit([to_luminance(image) for image in images(colored, 3)])
    assert detector.score(colored(9)) == gray.score(to_luminance(colored(9)))


def test_what_is_not_given_suits_the_network(paper, small):
    assert (PartDetector(paper).kind, PartDetector(paper).score_name) == ("mean", "max")
    assert (PartDetector(small).kind, PartDetector(small).score_name) == ("auto", DEFAULT)
    assert PartDetector(small, "mean").score_name == "max"
    assert PartDetector(paper, "gaussian").score_name == DEFAULT


@pytest.mark.parametrize(
    "named", [{"kind": "oracle"}, {"score": "median"}, {"kind": "mean", "metric": "cosine"}]
)
def test_unknown_names_are_refused(paper, named):
    with pytest.raises(ValueError, match="must be one of"):
        PartDetector(paper, **named).fit(images(grain, 1))


# Kinds of density.


def test_a_gaussian_has_one_component_for_every_source(three_scales):
    assert [density.components for density in three_scales.densities] == [1] * 6
    assert [source.kind for source in three_scales.features.sources] == [NETWORK] * 3 + [LINES] * 3
    assert not three_scales.needs_positions


@pytest.mark.parametrize(("draw", "is_positional"), [(registered, True), (grain, False)])
def test_auto_sees_from_good_images_whether_they_are_in_register(fast, draw, is_positional):
    detector = PartDetector(fast, "auto").fit(images(draw, 8))
    assert detector.needs_positions == is_positional
    assert detector.score(spotted(draw(99, SHAPE), 40, 60)) > max(
        detector.score(draw(seed, SHAPE)) for seed in (100, 101)
    )


def test_auto_takes_no_positions_where_sizes_differ_or_images_are_few(fast):
    mixed = [*images(registered, 6), registered(7, (90, 90))]
    assert not PartDetector(fast, "auto").fit(mixed).needs_positions
    assert not PartDetector(fast, "auto").fit(images(registered, 3)).needs_positions


def test_what_is_good_elsewhere_is_found_only_by_position(fast):
    """A piece of the pattern put where it does not belong."""
    defect = registered(99).copy()
    defect[50:74, 60:84] = defect[14:38, 10:34]
    good = [registered(seed) for seed in range(200, 206)]
    positional = PartDetector(fast, "positional").fit(images(registered, 8))
    assert positional.score(defect) > max(map(positional.score, good)) + 10


def test_a_positional_part_refuses_other_sizes(small):
    detector = PartDetector(small, "positional").fit(images(registered, 4))
    assert detector.needs_positions
    with pytest.raises(DataError, match=r"one size.*expected 96×104 pixels, received 90×104"):
        detector.score(registered(0, (90, 104)))
    with pytest.raises(
        DataError, match=r"image 3: .*expected 96×104 pixels as in the first, received 90×104"
    ):
        PartDetector(small, "positional").fit([*images(registered, 2), registered(0, (90, 104))])


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_images_are_enough(fast, kind, count):
    if kind == "positional" and count == 1:
        with pytest.raises(DataError, match="two good images or more, received one"):
            PartDetector(fast, kind).fit(images(grain, count))
        return
    detector = PartDetector(fast, kind).fit(images(grain, count))
    good, defect = detector.score(grain(99)), detector.score(spotted(grain(99), 40, 60))
    assert np.isfinite([good, defect]).all()
    assert defect > good


@pytest.mark.parametrize("kind", ["mixture", "gaussian", "positional", "mean"])
def test_images_that_never_vary_leave_everything_finite(small, kind):
    even = np.full(SHAPE, 0.3, np.float32)
    detector = PartDetector(small, kind).fit([even] * 4)
    good, defect = (detector.judge(image) for image in (even, spotted(even, 40, 60)))
    for one in (good, defect):
        assert np.isfinite(one.score)
        assert np.isfinite(one.anomaly).all()
    assert defect.score > good.score


# Fitting.


def test_images_of_several_sizes_are_fitted_to_and_judged(sides):
    for shape in [(68, 68), (69, 131), (120, 75)]:
        image = grain(99, shape)
        found = sides.judge(image)
        assert sides.anomaly_map(image).shape == shape
        assert found.anomaly.shape == tuple((side - 12) // 4 for side in shape)
        assert sides.score(spotted(image, 40, 30)) > found.score + 2


def test_the_seed_decides_all_that_is_drawn(fast):
    good, image = images(grain, 5), grain(99)
    one, same, other = (PartDetector(fast, "mixture", seed=seed).fit(good).score(image) for seed in (4, 4, 5))
    assert one == same
    assert one != other


def test_fitting_again_forgets_what_was_before(small):
    first, second = images(grain, 4), [grain(seed, (80, 80), size=2) for seed in range(4)]
    again = PartDetector(small, "gaussian").fit(first).fit(second)
    assert again.score(grain(9)) == PartDetector(small, "gaussian").fit(second).score(grain(9))
    assert again.fit(first) is again


def test_a_positional_part_can_be_fitted_again_to_another_size(fast):
    detector = PartDetector(fast, "auto").fit(images(registered, 6))
    assert detector.needs_positions
    detector.fit(images(grain, 6, (80, 90)))
    assert not detector.needs_positions
    assert np.isfinite(detector.score(grain(9)))


class Counted:
    """A sequence of images that knows how often each was read, and has names."""

    def __init__(self, found):
        self.found, self.reads = found, [0] * len(found)

    def __len__(self):
        return len(self.found)

    def __getitem__(self, number):
        self.reads[number] += 1
        return self.found[number]

    def name(self, number):
        return f"part {number}"


@pytest.mark.parametrize("kind", ["mean", "gaussian"])
def test_images_are_read_twice_at_most(small, kind):
    counted = Counted(images(grain, 5))
    PartDetector(small, kind).fit(counted)
    assert min(counted.reads) >= 1
    assert max(counted.reads) <= 2


def test_a_bad_image_is_named(small):
    region = MaskRegion(np.ones(SHAPE, bool))
    for kind in ("mean", "positional", "positional-mean"):
        with pytest.raises(DataError, match=r"part 2: .*expected 96×104 pixels"):
            PartDetector(small, kind, region=region if kind == "mean" else None).fit(
                Counted([*images(grain, 2), grain(2, (80, 80))])
            )


def test_without_images_there_is_nothing_to_fit_to(small):
    with pytest.raises(ValueError, match="at least one good image"):
        PartDetector(small).fit([])


def test_images_are_not_written_to(small):
    good = images(grain, 3)
    for image in good:
        image.flags.writeable = False
    PartDetector(small, "gaussian").fit(good).judge(good[0])


def test_light_that_multiplies_is_undone_but_for_the_mean(small):
    light = np.geomspace(0.15, 0.6, SHAPE[1])
    good = [
        (2 * light * (1 + 0.1 * np.random.default_rng(seed).standard_normal(SHAPE)) - 1).astype(np.float32)
        for seed in range(4)
    ]
    assert PartDetector(small, "gaussian").fit(good).settings["curve"] == "logarithmic"
    assert PartDetector(small, "gaussian").fit(images(grain, 4)).settings["curve"] == "linear"
    assert PartDetector(small, "mean").fit(good).settings["curve"] == "linear"


def test_large_images_are_halved(fast, monkeypatch):
    monkeypatch.setattr(fit_detector, "LARGE", 150)
    shape = (160, 171)
    detector = PartDetector(fast, "gaussian").fit(images(grain, 4, shape))
    assert detector.settings["is_halved"]
    assert detector.grid == hypercolumn.GRID.halved()
    image = grain(9, shape)
    halved = image[:, :170].reshape(80, 2, 85, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(
        detector.feature_maps(image)[0], factory.extractor(fast)(halved), rtol=1e-4, atol=1e-5
    )
    found = detector.judge(spotted(image, 60, 110, side=16))
    np.testing.assert_allclose(found.peak, [60, 110], atol=24)
    with pytest.raises(ValueError, match="at least 136×136 pixels"):
        detector.score(grain(9))


# Judging.


def test_it_follows_the_protocol_of_detectors(plain):
    wanted = [name for name in vars(Detector) if not name.startswith("_")]
    assert wanted == ["fit", "anomaly_map", "score"]
    assert all(callable(getattr(plain, name)) for name in wanted)


def test_map_score_and_peak_belong_together(plain):
    image = spotted(grain(99), 40, 60)
    found = plain.judge(image)
    assert found.anomaly.dtype == np.float32
    assert plain.score(image) == found.score
    placed = anomaly_maps.place(found.anomaly, SHAPE, plain.grid)
    np.testing.assert_array_equal(plain.anomaly_map(image), placed)
    share = SCORES[plain.score_name]
    assert plain.map_value(found.score) == pytest.approx(top_mean(found.anomaly, share), rel=1e-4)
    np.testing.assert_allclose(found.peak, [40, 60], atol=16)
    assert all(type(pixel) is int for pixel in found.peak)


@pytest.mark.parametrize("middle", [(20, 20), (20, 84), (48, 50), (76, 30), (80, 84)])
def test_a_spot_is_found_where_it_is(plain, middle):
    image = spotted(grain(99), *middle)
    found = plain.judge(image)
    assert found.score > max(plain.score(grain(seed)) for seed in (50, 51, 52)) + 1
    np.testing.assert_allclose(found.peak, middle, atol=16)


def test_the_sources_contributions_add_up_to_the_map(three_scales):
    image = spotted(grain(99), 40, 60)
    shares = three_scales.fuse(three_scales.standardize(three_scales.distances(image)[np.newaxis])).numpy()[0]
    found = three_scales.judge(image)
    np.testing.assert_allclose(shares.sum(axis=-1), found.anomaly, rtol=1e-4, atol=1e-3)
    sources = three_scales.features.sources
    assert shares.shape[-1] == len(sources) == 6
    assert found.source in {source.name for source in sources}
    is_lines = np.array([source.kind == LINES for source in sources])
    assert (np.any(shares[..., is_lines] != 0, axis=-1) ^ np.any(shares[..., ~is_lines] != 0, axis=-1)).all()


def test_the_second_half_judges_distances_alone(three_scales):
    image = spotted(grain(99), 40, 60)
    one, other = three_scales.judge(image), three_scales.verdict(three_scales.distances(image))
    assert (one.score, one.peak, one.source) == (other.score, other.peak, other.source)
    np.testing.assert_array_equal(one.anomaly, other.anomaly)


@pytest.mark.parametrize("kinds", [{"network"}, {"lines"}, {"network", "lines"}])
def test_another_score_of_some_sources(three_scales, kinds):
    image = spotted(grain(99), 40, 60)
    before = three_scales.score(image)
    other = three_scales.with_score("top-10%", kinds, center=0.25, spread=2.0)
    scores = three_scales.standardize(three_scales.distances(image)[np.newaxis]).numpy()[0]
    reached = scores * three_scales.fuse.gain.numpy() - three_scales.fuse.offset.numpy()
    sources = np.array([source.kind for source in three_scales.features.sources])
    expected = np.max([reached[..., sources == kind].sum(axis=-1) for kind in kinds], axis=0)
    found = other.judge(image)
    np.testing.assert_allclose(found.anomaly, expected, rtol=1e-4, atol=1e-3)
    assert found.score == pytest.approx((top_mean(expected, 0.1) - 0.25) / 2, abs=1e-3)
    assert other.score_name == "top-10%"
    assert (three_scales.score_name, three_scales.score(image)) == (DEFAULT, before)


def test_another_score_of_the_mean_stays_a_distance(paper):
    detector = PartDetector(paper).fit(images(grain, 3))
    other = detector.with_score("top-1%", {NETWORK}, center=5.0, spread=2.0)
    assert other.score(grain(9)) == pytest.approx(
        top_mean(detector.distances(grain(9))[..., 0], 0.01), rel=1e-5
    )


@pytest.mark.parametrize("score", SCORES)
def test_good_images_scores_are_standardized_under_every_score(fast, score):
    detector = PartDetector(fast, "gaussian", score=score).fit(images(grain, 6))
    assert detector.score_name == detector.score_layer.score == score
    assert isinstance(detector.score_layer, ImageScore)
    assert abs(np.mean([detector.score(grain(seed)) for seed in range(50, 56)])) < 8
    assert detector.score(spotted(grain(99), 40, 60, side=16)) > 3


def test_several_threads_may_ask_at_once(plain):
    found = images(grain, 6)
    with ThreadPoolExecutor(max_workers=3) as pool:
        assert list(pool.map(plain.score, found)) == [plain.score(image) for image in found]


def test_an_image_that_is_too_small_is_refused(plain):
    for ask in (plain.score, plain.distances, plain.feature_maps, plain.anomaly_map):
        with pytest.raises(ValueError, match=r"at least 68×68 pixels, received \(67, 90\)"):
            ask(grain(0, (67, 90)))


def test_the_embedding_is_the_feature_that_is_farthest(plain):
    image = spotted(grain(99), 40, 60)
    anomaly = plain.judge(image).anomaly
    place = np.unravel_index(anomaly.argmax(), anomaly.shape)
    np.testing.assert_array_equal(plain.embedding(image), plain.feature_maps(image)[0][place])


def test_beside_three_scales_lines_are_looked_for_but_not_by_the_mean(three_scales, small, paper):
    lines = [source.place for source in three_scales.features.sources if source.kind == LINES]
    assert lines == line_filters.places()
    network = three_scales.network
    for detector in (PartDetector(network, "mean"), PartDetector(small), PartDetector(paper)):
        assert all(source.kind == NETWORK for source in detector.features.sources)


# A region.


@pytest.fixture(scope="module")
def mask():
    mask = np.zeros(SHAPE, bool)
    mask[10:80, 8:50] = True
    return mask


@pytest.mark.parametrize("kind", ["gaussian", "mean"])
def test_what_lies_outside_a_region_has_no_say(small, mask, kind):
    good = images(grain, 4)
    spoiled = [image.copy() for image in good]
    for image in spoiled:  # far enough that no feature inside sees it
        image[:, 96:] = np.random.default_rng(0).choice([-1, 1], (SHAPE[0], 8))
    one, other = (PartDetector(small, kind, region=MaskRegion(mask)).fit(some) for some in (good, spoiled))
    found = [detector.judge(image) for detector in (one, other) for image in (good[0], spoiled[0])]
    for judgement in found[1:]:
        assert judgement.score == pytest.approx(found[0].score, abs=1e-3)
        assert judgement.peak == found[0].peak
    inside = one.inside(good[0], found[0].anomaly.shape)
    for judgement in found[1:]:
        np.testing.assert_allclose(judgement.anomaly[inside], found[0].anomaly[inside], atol=1e-3)


@pytest.mark.parametrize("kind", ["gaussian", "mean", "positional"])
@pytest.mark.parametrize("score", ["max", "top-1%"])
def test_the_peak_lies_inside_the_region(small, mask, kind, score):
    detector = PartDetector(small, kind, region=MaskRegion(mask), score=score).fit(images(grain, 4))
    for seed in range(5):
        image = spotted(grain(seed), 60, 80, side=16)
        found = detector.judge(image)
        assert mask[found.peak]
        inside = detector.inside(image, found.anomaly.shape)
        np.testing.assert_array_equal(inside, anomaly_maps.at_features(mask, (7.5, 4), found.anomaly.shape))
        np.testing.assert_allclose(found.anomaly[~inside], found.anomaly.min(), atol=1e-4)
        np.testing.assert_array_equal(detector.anomaly_map(image)[~mask], found.anomaly.min())
    marked = detector.judge(spotted(grain(9), 40, 30))
    np.testing.assert_allclose(marked.peak, [40, 30], atol=16)


def test_a_region_without_any_feature_is_refused(small):
    thin = np.zeros(SHAPE, bool)
    thin[:3] = True
    detector = PartDetector(small, "gaussian", region=MaskRegion(thin))
    with pytest.raises(DataError, match="image 1: the region of interest contains no feature"):
        detector.fit(images(grain, 3))


class Wandering:
    """A region that lies elsewhere in every image."""

    kind = "wandering"

    def region(self, image):
        inside = np.zeros(image.shape, bool)
        start = int(1e4 * abs(image[0, 0])) % 40
        inside[start : start + 50, start : start + 20 + start] = True
        return inside


@pytest.mark.parametrize("kind", ["positional", "gaussian"])
def test_a_region_may_be_another_in_every_image(small, kind):
    detector = PartDetector(small, kind, region=Wandering()).fit(images(grain, 6))
    for seed in range(50, 54):
        image = grain(seed)
        found = detector.judge(image)
        assert np.isfinite(found.score)
        assert Wandering().region(image)[found.peak]


# Large images.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["staar2018", "hypercolumn", "hypercolumn-three-scales"])
def test_tiles_are_the_whole(name):
    network = factory.build(name, 4 if name != hypercolumn.THREE_SCALES else 2, seed=3)
    detector = PartDetector(network, "gaussian").fit([grain(seed, (160, 160)) for seed in range(3)])
    for shape, side in [((331, 490), 200), ((300, 301), 170), ((100, 640), 333)]:
        image = grain(9, shape)[..., np.newaxis]
        pieces = []

        def distances(tile, pieces=pieces):
            pieces.append(tile.shape)
            return detector.distances(tile[..., 0])

        whole = detector.distances(image[..., 0])
        found = tiling.stitched(distances, image, detector.grid, side=side)
        assert len(pieces) == -(-shape[0] // side) * -(-shape[1] // side)
        grid = detector.grid
        assert max(map(max, pieces)) <= side + 2 * grid.reach + grid.smallest + 3 * grid.tile_step
        # Not bit for bit: where a matrix product begins decides which numbers are added first.
        np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-4 * whole.max())


def test_what_is_large_is_cut_but_not_for_positions(small, plain, monkeypatch):
    image, own = grain(9, (300, 340)), grain(9)
    whole = plain.distances(image)
    positional = PartDetector(small, "positional").fit(images(registered, 4))
    expected = positional.distances(own)
    cut = []
    stitched = tiling.stitched
    monkeypatch.setattr(tiling, "LARGE", own.size - 1)
    monkeypatch.setattr(tiling, "stitched", lambda *given: cut.append(1) or stitched(*given, side=150))
    np.testing.assert_allclose(plain.distances(image), whole, rtol=1e-4, atol=1e-4 * whole.max())
    assert len(cut) == 1
    np.testing.assert_array_equal(positional.distances(own), expected)
    assert len(cut) == 1


# Color.


def test_a_stain_of_another_hue_is_found_in_color_alone(in_color, in_gray):
    assert (in_color.channels, in_gray.channels) == (3, 1)
    image = stained(colored(99), slice(30, 50), slice(50, 74))
    usual = {
        detector: [detector.score(colored(seed)) for seed in range(50, 56)]
        for detector in (in_color, in_gray)
    }
    found = in_color.judge(image)
    assert found.score > max(usual[in_color]) + 3
    np.testing.assert_allclose(found.peak, [40, 62], atol=16)
    kinds = {source.name: source.kind for source in in_color.features.sources}
    assert COLOR in kinds.values()
    assert in_gray.score(image) == pytest.approx(in_gray.score(colored(99)), abs=0.5)


def test_a_gray_image_is_refused_by_a_color_part(in_color):
    for ask in (in_color.score, in_color.distances, in_color.anomaly_map):
        with pytest.raises(DataError, match="expected a color image, received a gray one"):
            ask(grain(0))


def test_a_color_image_is_its_luminance_to_a_gray_part(in_gray, plain):
    for detector in (in_gray, plain):
        assert detector.score(colored(9)) == detector.score(to_luminance(colored(9)))


def test_gray_and_color_images_are_not_mixed(small):
    mixed = [*images(colored, 3), *images(grain, 2)]
    with pytest.raises(DataError, match="2 of 5 good images are gray"):
        PartDetector(small, "gaussian").fit(mixed)
    assert PartDetector(small, "gaussian", is_gray=True).fit(mixed).channels == 1


def test_color_images_without_color_make_a_gray_part(small):
    good = [np.repeat(image[..., None], 3, axis=-1) for image in images(grain, 4)]
    detector = PartDetector(small, "gaussian").fit(good)
    assert detector.channels == 1
    plain = PartDetector(small, "gaussian").fit(images(grain, 4))
    assert detector.score(good[0]) == pytest.approx(plain.score(grain(0)), abs=1e-2)


@pytest.mark.parametrize("kind", ["auto", "positional"])
def test_color_goes_with_every_kind(small, kind):
    detector = PartDetector(small, kind).fit(images(colored, 4))
    assert detector.channels == 3
    assert np.isfinite(detector.judge(colored(9)).anomaly).all()


def test_color_sources_go_with_three_scales():
    detector = PartDetector(hypercolumn.build_three_scales(2, seed=0), "gaussian").fit(images(colored, 4))
    assert [source.kind for source in detector.features.sources] == [NETWORK] * 3 + [COLOR] + [LINES] * 3
    for found, source in zip(detector.feature_maps(colored(9)), detector.features.sources, strict=True):
        assert found.shape[-1] == source.dimensions
    stain = detector.judge(stained(colored(99), slice(30, 60), slice(40, 80)))
    assert stain.score > max(detector.score(colored(seed)) for seed in (50, 51, 52)) + 1
