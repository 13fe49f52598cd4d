"""A bundle is the inspector bit for bit, or it is refused: never a damaged one, never code."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metricad.density import MEANS
from metricad.errors import BundleError
from metricad.inspection.inspector import Inspector
from metricad.preprocessing.regions import ForegroundRegion
from metricad.scoring.calibration import calibrate
from tests.helpers import COLLECTING, repack, surface, texture

if not COLLECTING:
    from metricad.inspection import bundle, bundle_file
    from metricad.inspection.detector import PartDetector
    from metricad.networks import hypercolumn, residual

pytestmark = pytest.mark.tf

SETTINGS = {"channels": 1, "curve": "linear", "is_halved": False, "shrink": 1, "resizes_cells": False}
PROBES = [texture(np.random.default_rng(seed), side=side) for seed, side in enumerate((32, 64, 41))]


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def read_back(inspector, path):
    bundle.save(inspector, path)
    return bundle.load(path)


def same(one, other, probes=PROBES):
    """Whether two inspectors say the same of every probe, to the last bit."""
    for probe in probes:
        (found, anomaly), (expected, wanted) = (each.inspect(probe) for each in (one, other))
        if found != expected or not np.array_equal(anomaly, wanted):
            return False
    return True


def with_foreground():
    """An inspector of gray images of any size, on the part before its background."""

    def part(seed):
        rows, columns = np.mgrid[:96, :96]
        inside = np.hypot(rows - 48, columns - 48) < 40
        image = np.where(inside, texture(np.random.default_rng(seed), side=96), -0.95)
        return image.astype(np.float32)

    good = [part(seed) for seed in range(14)]
    network = hypercolumn.build(2, seed=1)
    detector = PartDetector(network, "gaussian", region=ForegroundRegion(margin=5), score="top-0.1%")
    detector.fit(good[:4])
    return Inspector(detector, calibrate(map(detector.score, good[4:]), 0.1)), good[:2]


# The round trip.


@settings(max_examples=6)
@given(
    kind=st.sampled_from(MEANS),
    metric=st.sampled_from(["euclidean", "manhattan"]),
    units=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
    rate=st.floats(0.05, 0.95),
)
@pytest.mark.slow
def test_distances_to_a_mean_survive_bit_for_bit(tmp_path_factory, kind, metric, units, seed, rate):
    rng = np.random.default_rng(seed)
    detector = PartDetector(residual.build(units, seed=seed), kind, metric=metric)
    good = rng.uniform(-1, 1, (3, 40, 40)).astype(np.float32)
    detector.fit(good)
    made = Inspector(detector, calibrate(rng.random(20), rate), {"note": "σ"})
    again = read_back(made, tmp_path_factory.mktemp("bundle") / "a.metricad")
    assert same(made, again, list(good) if detector.needs_positions else PROBES)
    assert again.threshold == made.threshold
    assert again.calibration.false_alarm_rate == rate
    assert again.fitted_on == {"note": "σ"}
    assert (again.detector.kind, again.detector.metric) == (kind, metric)
    assert again.detector.description == detector.description
    np.testing.assert_array_equal(again.calibration.scores, made.calibration.scores)


def assert_kept(made, again, probes):
    """Hold that a loaded inspector is the one that was saved."""
    assert same(made, again, probes)
    one, other = made.detector, again.detector
    assert again.threshold == made.threshold
    assert (other.kind, other.score_name) == (one.kind, one.score_name)
    assert other.settings == json.loads(json.dumps(one.settings))
    assert other.features.sources == one.features.sources
    assert other.needs_positions == one.needs_positions
    assert other.description == one.description
    assert again.map_scale() == made.map_scale()


def test_mixtures_of_color_on_three_scales_survive(free_part):
    inspector, path = free_part
    again = bundle.load(path)
    rng = np.random.default_rng(0)
    probes = [surface(rng, shape, scratch=True, color=True) for shape in [(96, 96), (68, 101)]]
    assert_kept(inspector, again, probes)
    assert again.detector.channels == 3
    assert [density.components for density in again.detector.densities[:3]] == [2, 3, 3]


def test_positions_and_a_mask_and_halving_survive(registered_part):
    inspector, path = registered_part
    again = bundle.load(path)
    rng = np.random.default_rng(0)
    mask = inspector.detector.region.mask
    assert_kept(inspector, again, [surface(rng, mask.shape, scratch=True) for _ in range(2)])
    assert again.detector.needs_positions
    assert again.detector.settings["is_halved"]
    np.testing.assert_array_equal(again.detector.region.mask, mask)


def test_a_foreground_region_survives(tmp_path):
    inspector, probes = with_foreground()
    again = read_back(inspector, tmp_path / "a.metricad")
    assert_kept(inspector, again, probes)
    assert isinstance(again.detector.region, ForegroundRegion)
    assert again.detector.region.margin == 5
    assert bundle.read_manifest(tmp_path / "a.metricad")["region"] == {
        "kind": "foreground", "arrays": [], "margin": 5
    }  # fmt: skip


def test_images_of_several_sizes_survive(tmp_path):
    """Standard scores then go by the distance from the edge."""
    rng = np.random.default_rng(0)
    good = [surface(rng, shape) for shape in [(80, 90), (96, 96), (120, 75)] * 2]
    detector = PartDetector(hypercolumn.build(2, seed=1), "gaussian").fit(good)
    made = Inspector(detector, calibrate(map(detector.score, good), 0.2))
    assert_kept(made, read_back(made, tmp_path / "a.metricad"), good[:2])


def test_a_copy_of_a_copy_is_the_same_inspector(fitted, tmp_path):
    second = read_back(read_back(fitted, tmp_path / "one.metricad"), tmp_path / "two.metricad")
    assert same(fitted, second)
    one, two = (bundle.read_manifest(tmp_path / name) for name in ("one.metricad", "two.metricad"))
    assert one["sha256"] == two["sha256"]


def test_the_manifest_says_what_the_inspector_is(fitted, part):
    manifest = bundle.read_manifest(part)
    assert manifest["format"] == "metricad-bundle"
    assert manifest["format_version"] == bundle_file.FORMAT_VERSION == 1
    assert {"metricad", "python", "tensorflow", "keras", "numpy"} <= manifest["versions"].keys()
    assert manifest["network"] == {"architecture": "staar2018", "units": 4}
    assert manifest["kind"] == "mean"
    assert manifest["settings"] == SETTINGS
    assert manifest["layers"] == {
        "density0": {"layer": "MeanDistance", "dimensions": 4, "metric": "euclidean", "shape": None},
        "score": {"layer": "ImageScore", "score": "max"},
    }
    assert manifest["region"] is None
    assert manifest["calibration"] == fitted.calibration.record()
    assert manifest["calibration"]["threshold"] == fitted.threshold
    assert manifest["calibration"]["rate_basis"] == "promised"
    assert manifest["fitted_on"] == {"fit_images": 21, "held_out_images": 9, "holdout": 0.3, "seed": 0}
    assert all(len(digest) == 64 for digest in manifest["sha256"].values())


def test_the_file_is_a_zip_of_json_and_plain_arrays(part, free_part, registered_part):
    for path in (part, free_part[1], registered_part[1]):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            assert names[0] == "manifest.json"
            assert set(names[1:]) == set(json.loads(archive.read("manifest.json"))["sha256"])
            for name in names[1:]:
                array = np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
                assert array.dtype in (np.float32, np.float64, bool)


def test_nothing_of_this_machine_is_in_the_file(part, good_folder):
    with zipfile.ZipFile(part) as archive:
        text = archive.read("manifest.json").decode()
    assert str(good_folder.parent) not in text
    assert good_folder.anchor + good_folder.parts[1] not in text


def test_an_older_file_of_the_name_is_replaced(fitted, tmp_path):
    path = tmp_path / "a.metricad"
    path.write_bytes(b"something else")
    assert same(fitted, read_back(fitted, path))
    assert [file.name for file in tmp_path.iterdir()] == ["a.metricad"]


# Damage.


@pytest.fixture
def content(part):
    return part.read_bytes()


def data_of(entry):
    """Where in the file a member's compressed bytes are."""
    start = entry.header_offset + 30 + len(entry.filename)
    return range(start, start + entry.compress_size)


def test_a_flipped_bit_of_the_zips_own_records_is_noticed_or_harmless(content, tmp_path):
    """Of what is no compressed data: headers, names, offsets, the directory at the end."""
    path = tmp_path / "a.metricad"
    path.write_bytes(content)
    whole = bundle_file.read(path)
    with zipfile.ZipFile(path) as archive:
        compressed = {position for entry in archive.infolist() for position in data_of(entry)}
    rng = np.random.default_rng(0)
    records = sorted(set(range(len(content))) - compressed)
    refused = 0
    for position in rng.choice(records, 800, replace=False):
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            assert bundle_file.read(path) == whole
        except BundleError:
            refused += 1
    assert refused > 400


def test_a_member_that_claims_to_be_encrypted_is_refused(content, tmp_path):
    """One flipped bit does it, and makes zipfile raise a RuntimeError."""
    path = tmp_path / "a.metricad"
    directory = content.index(b"PK\x01\x02")
    path.write_bytes(content[: directory + 8] + b"\x01" + content[directory + 9 :])
    with pytest.raises(BundleError, match=r"damaged one"):
        bundle.load(path)


def test_a_flipped_byte_of_any_members_data_is_noticed(content, tmp_path):
    path = tmp_path / "a.metricad"
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    assert len(entries) == 21
    for entry in entries:
        for position in np.random.default_rng(0).choice(data_of(entry), 9):
            damaged = bytearray(content)
            damaged[position] ^= 0x10
            path.write_bytes(damaged)
            with pytest.raises(BundleError, match=r"a\.metricad: .*damaged"):
                bundle.load(path)


def test_a_truncated_bundle_is_refused_at_every_length(content, tmp_path):
    path = tmp_path / "a.metricad"
    for length in np.linspace(0, len(content) - 1, 60).astype(int):
        path.write_bytes(content[:length])
        with pytest.raises(BundleError, match=r"a\.metricad: no metricad bundle, or a damaged one"):
            bundle.load(path)


def test_a_wrong_checksum_is_named(part, tmp_path):
    """The zip's own checksum is right here: a member was exchanged, not damaged."""
    sums = bundle.read_manifest(part)["sha256"] | {"density0/00.npy": "0" * 64}
    path = repack(part, tmp_path / "a.metricad", manifest={"sha256": sums})
    with pytest.raises(BundleError, match=r"the checksum of density0/00\.npy is wrong"):
        bundle.load(path)


@pytest.mark.parametrize("member", ["network__00", "density0__00", "score__01", "calibration__scores"])
def test_a_missing_member_is_refused_whether_the_manifest_names_it_or_not(part, tmp_path, member):
    path = repack(part, tmp_path / "a.metricad", **{member: None})
    with pytest.raises(BundleError, match="incomplete or contradictory"):
        bundle.load(path)
    sums = bundle.read_manifest(part)["sha256"]
    path = repack(part, tmp_path / "b.metricad", manifest={"sha256": sums}, **{member: None})
    with pytest.raises(BundleError, match="damaged"):
        bundle.load(path)


def test_an_array_of_another_shape_is_refused(part, registered_part, tmp_path):
    path = repack(part, tmp_path / "a.metricad", density0__00=npy(np.zeros(5, np.float32)))
    with pytest.raises(BundleError, match="incomplete or contradictory"):
        bundle.load(path)
    mean = registered_part[0].detector.densities[0].mean.numpy()
    path = repack(registered_part[1], tmp_path / "b.metricad", density0__00=npy(mean[:-1]))
    with pytest.raises(BundleError, match="incomplete or contradictory"):
        bundle.load(path)


class Bomb:
    """Its unpickling would be noticed."""

    def __reduce__(self):
        return pytest.fail, ("a bundle was unpickled",)


@pytest.mark.parametrize(
    "content",
    [
        npy(np.array([Bomb()], dtype=object), allow_pickle=True),
        pickle.dumps(Bomb()),
        b"\x93NUMPY\x01\x00\x40\x00{'descr': '<f4', 'fortran_order': False, 'shape': (" + b" " * 40,
        b"\x93NUMPY\x09\x00",
        b"",
        npy(np.ones(9)).replace(b"(9,)", b"(999999999999,)"),
        npy(np.ones(9))[:-8],
        npy(np.array(["text"])),
    ],
    ids=["object array", "pickle", "open bracket", "unknown version", "empty", "huge", "short", "text"],
)
def test_nothing_but_plain_arrays_is_read(part, tmp_path, content):
    path = repack(part, tmp_path / "a.metricad", calibration__scores=content)
    with pytest.raises(BundleError, match="no plain array"):
        bundle.load(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("member", "shape", "dtype"),
    [("density0__00", 4, np.float32), ("score__01", (), np.float32), ("calibration__scores", 9, np.float64)],
)
def test_numbers_that_are_not_finite_are_refused(part, tmp_path, member, shape, dtype, value):
    array = np.ones(shape, dtype)
    array.flat[-1] = value
    path = repack(part, tmp_path / "a.metricad", **{member: npy(array)})
    with pytest.raises(BundleError, match="not finite"):
        bundle.load(path)


@pytest.mark.parametrize(
    "manifest",
    [
        {"network": {"architecture": "staar2018", "units": 5}},
        {"network": {"architecture": "staar2018", "units": 0}},
        {"network": {"architecture": "oracle", "units": 4}},
        {"network": {"architecture": "hypercolumn", "units": 4}},
        {"network": {}},
        {"kind": "oracle"},
        {"settings": SETTINGS | {"curve": "gamma"}},
        {"layers": {}},
        {"layers": {"density0": {"layer": "MeanDistance", "dimensions": 4}}},
        {"layers": {"density0": {"layer": "Oracle"}, "score": {"layer": "ImageScore", "score": "max"}}},
        {
            "layers": {
                "density0": {"layer": "MeanDistance", "dimensions": 4, "metric": "cosine"},
                "score": {"layer": "ImageScore", "score": "max"},
            }
        },
        {
            "layers": {
                "density0": {"layer": "GaussianMixture", "dimensions": 4, "components": 1},
                "score": {"layer": "ImageScore", "score": "max"},
            }
        },
        {
            "layers": {
                "density0": {"layer": "MeanDistance", "dimensions": 4, "metric": "euclidean", "shape": None},
                "score": {"layer": "ImageScore", "score": "median"},
            }
        },
        {"calibration": {}},
        {"calibration": {"false_alarm_rate": 0.1, "threshold": 0.0}},
        {"calibration": {"false_alarm_rate": [0.1], "threshold": 0.0}},
        {"fitted_on": None},
        {"network": {"architecture": "staar2018", "units": 10**6}},
        {"network": {"architecture": ["staar2018"], "units": 4}},
        {"layers": [1, 2]},
        {"layers": {"density0": {"layer": "MeanDistance", "dimensions": 10**18, "metric": "euclidean"}}},
        {"settings": SETTINGS | {"channels": True}},
        {"settings": SETTINGS | {"shrink": 3}},
        {"settings": SETTINGS | {"resizes_cells": 1}},
        {"settings": SETTINGS | {"shape": [96]}},
        {"region": {"kind": "oracle", "arrays": []}},
        {"region": {"kind": "mask", "arrays": ["mask"]}},
        {"region": {"kind": "foreground", "arrays": [], "margin": -1}},
        {"levels": {"container": "uint8", "bits": 12}},
        {"levels": {"container": "int16", "bits": 12}},
        {"levels": {"bits": 8}},
    ],
    ids=str,
)
def test_a_manifest_that_contradicts_the_members_is_refused(part, tmp_path, manifest):
    path = repack(part, tmp_path / "a.metricad", manifest=manifest)
    with pytest.raises(BundleError, match="incomplete or contradictory"):
        bundle.load(path)


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        (2, "another metricad made it: use that one, or make the bundle again"),
        (5, "another metricad made it: use that one, or make the bundle again"),
        (0, "make the bundle again"),
        (None, "make the bundle again"),
        ("1", "make the bundle again"),
    ],
)
def test_another_version_of_the_format_is_refused_with_what_to_do(part, tmp_path, version, advice):
    path = repack(part, tmp_path / "a.metricad", manifest={"format_version": version})
    for read in (bundle.load, bundle.read_manifest):
        with pytest.raises(BundleError, match=f"bundle format {version}, expected 1; {advice}"):
            read(path)


def test_another_kind_of_file_is_refused(tmp_path, part):
    with pytest.raises(BundleError, match="no such file"):
        bundle.load(tmp_path / "missing.metricad")
    text = tmp_path / "text.metricad"
    text.write_text("no zip")
    with pytest.raises(BundleError, match="no metricad bundle, or a damaged one"):
        bundle.load(text)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(BundleError, match="no metricad bundle"):
        bundle.load(tmp_path / "other.zip")
    for description in ({"format": "other"}, {"format": None}):
        foreign = repack(part, tmp_path / "foreign.zip", manifest=description)
        with pytest.raises(BundleError, match="a zip file, but no metricad bundle"):
            bundle.load(foreign)
