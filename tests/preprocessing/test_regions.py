"""Where a part is: the mask is obeyed to the pixel, the foreground found or the whole image taken."""

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from metricad.data import images
from metricad.errors import DataError
from metricad.inspection.inspector import Inspector
from metricad.preprocessing import foreground
from metricad.preprocessing.regions import KINDS, ForegroundRegion, MaskRegion
from metricad.scoring.anomaly_maps import place
from metricad.scoring.calibration import calibrate
from tests.helpers import COLLECTING, SIDE, save, scratched, texture

if not COLLECTING:
    from skimage.morphology import isotropic_dilation

    from metricad.inspection import bundle
    from metricad.inspection.detector import PartDetector
    from metricad.networks import residual

pytestmark = pytest.mark.tf

WIDE = 96


def disk(side=WIDE, *, row=48, column=48, radius=34):
    """A round part."""
    rows, columns = np.mgrid[:side, :side]
    return np.hypot(rows - row, columns - column) < radius


def on_background(surface, part, *, level=-0.9, noise=0.01, seed=0):
    """Cut a surface to a part's shape and lay it on an even background with a camera's noise."""
    rng = np.random.default_rng(seed)
    background = level + noise * rng.standard_normal(part.shape)
    return np.clip(np.where(part, surface, background), -1, 1).astype(np.float32)


def part_on_dark(seed=0, *, side=WIDE):
    return on_background(texture(np.random.default_rng(seed), side=side), disk(side), seed=seed)


def box(rows, columns, shape=(SIDE, SIDE)):
    """A mask that is True in a rectangle."""
    mask = np.zeros(shape, bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


# A mask.


def test_a_mask_is_the_region_of_every_image_of_its_size():
    mask = disk()
    region = MaskRegion(mask)
    expected = mask.copy()
    mask[:] = True  # the region keeps its own
    for image in (part_on_dark(), np.zeros((WIDE, WIDE), np.float32)):
        np.testing.assert_array_equal(region.region(image), expected)
    with pytest.raises(ValueError, match="read-only"):
        region.region(image)[0, 0] = True


def test_an_image_of_another_size_is_refused_with_both_sizes():
    with pytest.raises(DataError, match=r"^a mask needs .*: expected 96×96 pixels, received 64×96; resize"):
        MaskRegion(disk()).region(np.zeros((64, 96), np.float32))


@pytest.mark.parametrize(
    ("mask", "received"),
    [
        (np.zeros((4, 4), bool), r"bool \(4, 4\), all False"),
        (np.ones((4, 4), np.uint8), r"uint8 \(4, 4\)"),
        (np.ones((4, 4, 1), bool), r"bool \(4, 4, 1\)"),
    ],
)
def test_only_a_mask_with_something_inside_is_taken(mask, received):
    with pytest.raises(ValueError, match=rf"^expected a mask bool .* received {received}$"):
        MaskRegion(mask)
    with pytest.raises(ValueError, match=r"^expected a mask bool"):
        MaskRegion().restore({"mask": mask})


def test_a_mask_is_read_from_an_image_by_what_is_brighter_than_mid_gray(tmp_path):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    images.write(tmp_path / "mask.png", levels)
    np.testing.assert_array_equal(MaskRegion.read(tmp_path / "mask.png").mask, levels >= 128)


def test_a_mask_file_with_nothing_inside_is_refused_by_name(tmp_path):
    images.write(tmp_path / "labels.png", np.ones((8, 8), np.uint8))  # 0 and 1, as some tools write masks
    with pytest.raises(DataError, match=r"labels\.png: an empty mask: expected white .* mid-gray$"):
        MaskRegion.read(tmp_path / "labels.png")
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        MaskRegion.read(tmp_path / "none.png")


# The foreground.


def test_a_bright_part_on_a_dark_background_is_found_to_two_pixels():
    part = foreground.find(part_on_dark())
    assert not part[~isotropic_dilation(disk(), 2)].any()
    assert part[disk(radius=32)].all()


def test_the_background_may_be_the_brighter_side():
    surface = texture(np.random.default_rng(0), side=WIDE)
    bright = foreground.find(on_background(surface, disk(), level=0.9))
    dark = foreground.find(on_background(surface, disk(), level=-0.9))
    assert (bright ^ dark).mean() < 0.02
    np.testing.assert_array_equal(bright, foreground.find(-on_background(surface, disk(), level=0.9)))


@settings(max_examples=25)
@given(
    row=st.integers(10, 86),
    column=st.integers(10, 86),
    radius=st.integers(18, 60),
    level=st.sampled_from([-1.0, -0.85, 0.85, 1.0]),
    noise=st.floats(0, 0.03),
    seed=st.integers(0, 99),
)
def test_a_part_is_found_wherever_it_lies_also_beyond_the_images_border(
    row, column, radius, level, noise, seed
):
    part = disk(row=row, column=column, radius=radius)
    border = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
    assume(border.mean() < 0.8)  # enough of the background is to be seen
    surface = texture(np.random.default_rng(seed), side=WIDE)
    found = ForegroundRegion(margin=0).region(
        on_background(surface, part, level=level, noise=noise, seed=seed)
    )
    # Right but for a dark or a bright stripe of the part that runs along its edge.
    from_edge = np.where(part, distance_transform_edt(part), distance_transform_edt(~part))
    assert not (found ^ part)[from_edge > 5].any()


def test_a_narrow_dark_strip_beside_an_unevenly_lit_part_is_found():
    """Otsu's first threshold parts the light from the shadow; as on the magnetic tiles."""
    lit = texture(np.random.default_rng(0), side=WIDE) * 0.3 + np.linspace(-0.5, 0.8, WIDE)[:, np.newaxis]
    part = box((0, WIDE), (5, WIDE), (WIDE, WIDE))
    found = foreground.find(on_background(lit, part, level=-0.95))
    assert (found ^ part).mean() < 0.02


def test_the_grain_of_the_part_does_not_fray_it():
    """Single grains are as dark as the background."""
    grain = np.random.default_rng(0).normal(0.2, 0.5, (WIDE, WIDE))
    found = foreground.find(on_background(grain, disk()))
    assert not found[~isotropic_dilation(disk(), 3)].any()
    assert found[disk(radius=31)].all()


def test_holes_belong_to_the_part_and_crumbs_do_not():
    part = disk() & ~disk(radius=8)
    part[2:8, 2:8] = True
    surface = np.abs(texture(np.random.default_rng(0), side=WIDE))
    found = foreground.find(on_background(surface, part))
    assert found[disk(radius=31)].all()
    assert not found[:12, :12].any()


def test_a_thin_dark_crack_that_runs_to_the_edge_is_judged():
    image = part_on_dark()
    image[45:51, :50] = -1
    assert ForegroundRegion(margin=0).region(image)[45:51, 20:50].all()


@pytest.mark.parametrize("margin", [0, 1, 5, 12])
def test_the_margin_keeps_away_from_the_background_and_not_from_the_images_border(margin):
    part = box((0, WIDE), (0, 70), (WIDE, WIDE))
    surface = np.abs(texture(np.random.default_rng(0), side=WIDE))
    image = on_background(surface, part)
    found = foreground.find(image)
    inside = ForegroundRegion(margin=margin).region(image)
    # By hand: no pixel of the background within the margin.
    rows, columns = np.nonzero(~found)
    for row, column in [(0, 0), (WIDE - 1, 30), (40, 60), (40, 66), (40, 69), (5, 58)]:
        nearest = np.hypot(rows - row, columns - column).min()
        assert inside[row, column] == (nearest > margin)
    assert inside[:, 0].all()
    assert found.sum() - inside.sum() >= margin * WIDE


@pytest.mark.parametrize(
    "image",
    [
        texture(np.random.default_rng(0), side=WIDE),
        np.random.default_rng(0).normal(0, 0.3, (WIDE, WIDE)).clip(-1, 1).astype(np.float32),
        np.full((WIDE, WIDE), 0.25, np.float32),
        np.linspace(-1, 1, WIDE * WIDE, dtype=np.float32).reshape(WIDE, WIDE),
        on_background(np.full((WIDE, WIDE), 0.5), disk(column=20, radius=14) | disk(column=70, radius=14)),
        np.where(np.indices((WIDE, WIDE)).sum(axis=0) // 16 % 2, 0.8, -0.8).astype(np.float32),
        np.where(np.indices((WIDE, WIDE))[0] // 12 % 2, 0.8, -0.8).astype(np.float32),
        np.where((np.indices((WIDE, WIDE)) % 31 < 16).all(axis=0), -0.8, 0.8).astype(np.float32),
    ],
    ids=["stripes", "noise", "constant", "ramp", "broken in two", "diagonals", "bands", "squares"],
)
def test_where_there_is_no_part_before_a_background_the_whole_image_is_the_region(image):
    assert foreground.find(image) is None
    assert ForegroundRegion().region(image).all()


def test_a_margin_that_leaves_nothing_leaves_the_whole_image():
    image = part_on_dark()
    assert not ForegroundRegion(margin=30).region(image).all()
    assert ForegroundRegion(margin=40).region(image).all()
    assert ForegroundRegion(margin=40).region(image).shape == image.shape


@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    levels=st.integers(1, 256),
    blocks=st.integers(1, 12),
    margin=st.integers(0, 10),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_region_is_never_empty_and_has_the_images_shape(shape, levels, blocks, margin, seed):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(
        0, levels, [-(-side // blocks) for side in shape], dtype=np.uint8, endpoint=levels < 256
    )
    pixels = np.kron(coarse, np.ones((blocks, blocks), np.uint8))[: shape[0], : shape[1]]
    region = ForegroundRegion(margin=margin).region(images.from_uint8(pixels))
    assert region.dtype == bool
    assert region.shape == shape
    assert region.any()


def test_a_negative_margin_is_refused():
    with pytest.raises(ValueError, match=r"margin must be 0 pixels or more, received -1"):
        ForegroundRegion(margin=-1)


@pytest.mark.parametrize("region", [MaskRegion(disk()), ForegroundRegion(margin=3)])
def test_settings_and_arrays_make_the_region_again(region):
    again = KINDS[region.kind](**region.settings()).restore(region.arrays())
    np.testing.assert_array_equal(again.region(part_on_dark()), region.region(part_on_dark()))
    assert again.settings() == region.settings()


# In the detector.


@pytest.fixture(scope="module")
def model():
    return residual.build(4, seed=3)


MASK = box((10, 50), (20, 44))


def centres_inside(mask, count=17):
    """By a loop: whether each of a 64×64 image's features has its centre, 15.5 + 2k, in the mask."""
    return np.array([[mask[16 + 2 * i, 16 + 2 * j] for j in range(count)] for i in range(count)])


@pytest.mark.parametrize("kind", ["mean", "gaussian"])
def test_only_features_inside_are_learned_from_and_scored(model, kind):
    """What lies outside may be anything in every good image."""
    rng = np.random.default_rng(0)
    good = [texture(rng) for _ in range(4)]
    far = ~isotropic_dilation(MASK, residual.RECEPTIVE_FIELD)
    noisy = [np.where(far, rng.uniform(-1, 1, MASK.shape), one).astype(np.float32) for one in good]
    plain, other = (
        PartDetector(model, kind, region=MaskRegion(MASK)).fit(images) for images in (good, noisy)
    )
    inside = plain.inside(good[0], (17, 17))
    np.testing.assert_array_equal(inside, centres_inside(MASK))
    found, expected = plain.judge(good[0]), other.judge(good[0])
    assert found.score == pytest.approx(expected.score, rel=1e-4)
    assert found.peak == expected.peak
    assert MASK[found.peak]


@pytest.mark.parametrize("kind", ["mean", "gaussian", "positional", "auto"])
def test_what_lies_outside_changes_nothing(model, kind):
    """A scratch whose pixels no inside feature sees, in an image to judge."""
    rng = np.random.default_rng(0)
    region = MaskRegion(box((0, 20), (0, 20)))
    made = PartDetector(model, kind, region=region).fit([texture(rng) for _ in range(10)])
    plain = texture(rng)
    marked = scratched(plain, 50, 50)
    np.testing.assert_allclose(
        made.anomaly_map(marked)[:20, :20], made.anomaly_map(plain)[:20, :20], atol=1e-5
    )
    assert made.score(marked) == pytest.approx(made.score(plain), abs=1e-5)
    assert made.score(scratched(plain, 12, 12)) > made.score(plain)


def test_the_anomaly_map_has_its_least_value_outside_up_to_the_images_border(model):
    """The outermost feature's value would reach over a strip that is narrower than half a receptive field."""
    rng = np.random.default_rng(0)
    region = MaskRegion(box((0, 64), (6, 64)))
    made = PartDetector(model, "mean", region=region).fit([texture(rng) for _ in range(3)])
    image = texture(rng)
    anomaly = made.judge(image).anomaly
    placed = place(anomaly, image.shape, residual.GRID)
    anomaly_map = made.anomaly_map(image)
    assert anomaly_map.dtype == np.float32
    assert (anomaly_map[:, :6] == anomaly.min()).all()
    np.testing.assert_array_equal(anomaly_map[:, 6:], placed[:, 6:])


def test_a_region_without_a_features_center_is_refused(model):
    """A score of nothing would call any image good."""
    made = PartDetector(model, "mean", region=MaskRegion(box((0, 15), (0, 64))))
    with pytest.raises(DataError, match=r"contains no feature; .* at least 16 pixels from"):
        made.fit([texture(np.random.default_rng(0))])


def test_a_background_that_changes_is_no_defect_and_a_scratch_still_is(model):
    """What the region is for."""
    good = [part_on_dark(seed) for seed in range(20)]
    scratch = scratched(part_on_dark(30), 45, 45)
    other_tray = on_background(texture(np.random.default_rng(30), side=WIDE), disk(), level=0.9)

    def alarms(region, *images):
        made = PartDetector(model, "mean", region=region).fit(good[:14])
        limit = max(made.score(other) for other in good[14:])
        return [made.score(image) > limit for image in images]

    assert alarms(None, other_tray) == [True]
    within = ForegroundRegion(margin=24)  # no feature sees the background, not by its corners either
    assert alarms(within, other_tray, scratch) == [False, True]


# In a bundle.


def saved(model, region, path):
    made = PartDetector(model, "gaussian", region=region).fit([part_on_dark(seed) for seed in range(3)])
    bundle.save(Inspector(made, calibrate(np.arange(20.0), 0.1)), path)
    return made


@pytest.mark.parametrize(
    "region", [MaskRegion(disk()), ForegroundRegion(margin=3)], ids=["mask", "foreground"]
)
def test_a_bundle_keeps_the_region(model, region, tmp_path):
    made = saved(model, region, tmp_path / "a.metricad")
    again = bundle.load(tmp_path / "a.metricad").detector
    assert again.region.kind == region.kind
    assert again.region.settings() == region.settings()
    probe = part_on_dark(9)
    np.testing.assert_array_equal(again.anomaly_map(probe), made.anomaly_map(probe))


def test_the_manifest_says_where_is_judged(model, tmp_path):
    path = tmp_path / "a.metricad"
    saved(model, ForegroundRegion(margin=3), path)
    assert bundle.read_manifest(path)["region"] == {"kind": "foreground", "arrays": [], "margin": 3}
    saved(model, MaskRegion(disk()), path)
    assert bundle.read_manifest(path)["region"] == {"kind": "mask", "arrays": ["mask"]}
    assert "region/mask.npy" in bundle.read_manifest(path)["sha256"]
    saved(model, None, path)
    assert bundle.read_manifest(path)["region"] is None


# Through the command line.


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Good parts on a dark background, two to inspect, and a mask."""
    root = tmp_path_factory.mktemp("parts")
    for seed in range(20):
        save(root / "good" / f"{seed:02}.png", part_on_dark(seed))
    save(root / "new" / "scratch.png", scratched(part_on_dark(50), 45, 45))
    save(root / "new" / "litter.png", scratched(part_on_dark(51), 2, 2))
    images.write(root / "mask.png", (255 * disk(radius=28)).astype(np.uint8))
    return root


@pytest.mark.parametrize("how", ["mask", "foreground"])
def test_from_good_parts_to_maps_within_the_region(run_metricad, run_folder, parts, tmp_path, how):
    part = tmp_path / "a.metricad"
    options = {"mask": ["--mask", parts / "mask.png"], "foreground": ["--foreground", "--margin", 4]}[how]
    made = run_metricad(
        "prototype", parts / "good", "--out", part, "--network", run_folder, "--kind", "gaussian",
        "--holdout", 0.45, "--false-alarm-rate", 0.1, *options,
    )  # fmt: skip
    assert (made.status, made.err) == (0, "")
    kept = bundle.load(part).detector.region
    assert (kept.kind, kept.settings()) == (how, {"margin": 4} if how == "foreground" else {})

    done = run_metricad("inspect", part, parts / "new", "--format", "jsonl", "--maps", tmp_path / "maps")
    assert (done.status, done.err) == (0, "")
    litter, scratch = (json.loads(line) for line in done.out.splitlines())
    assert (scratch["verdict"], litter["verdict"]) == ("defect", "good")
    assert disk()[scratch["peak_row"], scratch["peak_col"]]
    # Outside, the map is drawn in its lowest color: the same for any image, whatever lies there.
    picture = images.read(tmp_path / "maps" / "litter.png.png")
    level = images.read(parts / "new" / "litter.png")
    scale = bundle.load(part).map_scale()
    nothing = images.to_image(images.overlay(level, np.full_like(level, scale["low"]), **scale))
    outside = ~isotropic_dilation(disk(), 3)
    np.testing.assert_allclose(picture[outside], nothing[outside], atol=1e-6)


def test_options_that_contradict_each_other_are_refused(refused, run_folder, parts, tmp_path):
    command = ["prototype", parts / "good", "--out", tmp_path / "a.metricad", "--network", run_folder]
    both = refused(*command, "--mask", parts / "mask.png", "--foreground")
    assert "--mask and --foreground exclude each other" in both
    assert "--margin needs --foreground" in refused(*command, "--margin", 3)
    assert "--margin needs --foreground" in refused(*command, "--margin", 3, "--mask", parts / "mask.png")
    assert "none.png: no such file" in refused(*command, "--mask", parts / "none.png")
    assert not (tmp_path / "a.metricad").exists()


def test_a_mask_of_another_size_is_refused_with_the_image_named(refused, run_folder, parts, tmp_path):
    images.write(tmp_path / "mask.png", np.full((40, 50), 255, np.uint8))
    said = refused(
        "prototype", parts / "good", "--out", tmp_path / "a.metricad", "--network", run_folder,
        "--holdout", 0.45, "--false-alarm-rate", 0.1, "--mask", tmp_path / "mask.png",
    )  # fmt: skip
    assert "good/" in said
    assert ".png: a mask needs aligned images of its own size" in said
    assert "expected 40×50 pixels, received 96×96" in said
