"""A bundle is the inspector bit for bit, or it is refused: never a damaged one, never code."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from conftest import repack, texture
from hypothesis import given, settings
from hypothesis import strategies as st
from metricad.positional import PositionalPrototype
from metricad.prototype import GaussianPrototype, MeanPrototype

from metricad.errors import BundleError
from metricad.inspection import bundle
from metricad.inspection.detector import TripletDetector
from metricad.inspection.inspector import Inspector
from metricad.networks import residual as network
from metricad.scoring.calibration import calibrate

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
    return all(one.inspect(probe)[0] == other.inspect(probe)[0] for probe in probes) and all(
        np.array_equal(one.inspect(probe)[1], other.inspect(probe)[1]) for probe in probes
    )


# The round trip.


@settings(max_examples=6)
@given(
    prototype=st.sampled_from(
        [
            MeanPrototype(),
            MeanPrototype(metric="manhattan"),
            GaussianPrototype(shrinkage=0.3),
            PositionalPrototype(shrinkage=0.2),
        ]
    ),
    units=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
    rate=st.floats(0.05, 0.95),
)
def test_scores_survive_the_round_trip_bit_for_bit(tmp_path_factory, prototype, units, seed, rate):
    rng = np.random.default_rng(seed)
    detector = TripletDetector(network.build(units, seed=seed), prototype)
    detector.fit(rng.uniform(-1, 1, (3, 40, 40)).astype(np.float32))
    made = Inspector(detector, calibrate(rng.random(20), rate), {"note": "σ"})
    again = read_back(made, tmp_path_factory.mktemp("bundle") / "a.metricad")
    one_size = prototype.kind == "positional"
    assert same(made, again, [texture(rng, side=40) for _ in range(3)] if one_size else PROBES)
    assert again.threshold == made.threshold
    assert again.calibration.false_alarm_rate == rate
    assert again.fitted_on == {"note": "σ"}
    assert again.detector.prototype.kind == prototype.kind
    assert again.detector.prototype.settings() == prototype.settings()
    np.testing.assert_array_equal(again.calibration.scores, made.calibration.scores)


def test_a_copy_of_a_copy_is_the_same_inspector(fitted, tmp_path):
    second = read_back(read_back(fitted, tmp_path / "one.metricad"), tmp_path / "two.metricad")
    assert same(fitted, second)
    one, two = (bundle.read_manifest(tmp_path / name) for name in ("one.metricad", "two.metricad"))
    assert one["sha256"] == two["sha256"]


def test_the_manifest_says_what_the_inspector_is(fitted, part):
    manifest = bundle.read_manifest(part)
    assert manifest["format"] == "metricad-bundle"
    assert manifest["format_version"] == 5
    assert {"metricad", "python", "tensorflow", "keras", "numpy"} <= manifest["versions"].keys()
    assert manifest["network"] == {"architecture": "staar2018", "units": 4}
    assert manifest["prototype"] == {"kind": "mean", "metric": "euclidean"}
    assert manifest["calibration"] == {"false_alarm_rate": 0.1, "threshold": fitted.threshold}
    assert manifest["fitted_on"] == {"fit_images": 21, "held_out_images": 9, "holdout": 0.3, "seed": 0}
    assert all(len(digest) == 64 for digest in manifest["sha256"].values())


def test_the_reduction_is_kept(fitted, tmp_path):
    detector = TripletDetector(fitted.detector.model, fitted.detector.prototype, reduction="top-10%")
    made = Inspector(detector, fitted.calibration)
    again = read_back(made, tmp_path / "a.metricad")
    assert bundle.read_manifest(tmp_path / "a.metricad")["reduction"] == again.detector.reduction == "top-10%"
    assert same(made, again)
    assert not same(fitted, again)


def test_a_bundle_that_does_not_say_its_reduction_takes_the_maximum(fitted, part, tmp_path):
    assert bundle.read_manifest(part)["reduction"] == "max"
    older = tmp_path / "older.metricad"
    with zipfile.ZipFile(part) as source, zipfile.ZipFile(older, "w") as target:
        manifest = json.loads(source.read("manifest.json"))
        del manifest["reduction"]
        target.writestr("manifest.json", json.dumps(manifest))
        for name in source.namelist()[1:]:
            target.writestr(name, source.read(name))
    assert bundle.load(older).detector.reduction == "max"
    assert same(fitted, bundle.load(older))


def test_a_reduction_that_nobody_knows_is_refused(part, tmp_path):
    path = repack(part, tmp_path / "a.metricad", manifest={"reduction": "median"})
    with pytest.raises(BundleError, match=r"incomplete or contradictory bundle .*median"):
        bundle.load(path)


def test_the_file_is_a_zip_of_json_and_plain_arrays(part):
    with zipfile.ZipFile(part) as archive:
        names = archive.namelist()
        assert names[0] == "manifest.json"
        assert set(names[1:]) == set(json.loads(archive.read("manifest.json"))["sha256"])
        for name in names[1:]:
            array = np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
            assert array.dtype in (np.float32, np.float64)


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
    whole = bundle._read(path)
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
            assert bundle._read(path) == whole
        except BundleError:
            refused += 1
    assert refused > 400


def test_a_member_that_claims_to_be_encrypted_is_refused(content, tmp_path):
    """One flipped bit does it, and makes zipfile raise a RuntimeError."""
    path = tmp_path / "a.metricad"
    directory = content.index(b"PK\x01\x02")
    path.write_bytes(content[: directory + 8] + b"\x01" + content[directory + 9 :])
    with pytest.raises(BundleError, match=r"damaged one .*encrypted"):
        bundle.load(path)


def test_a_flipped_byte_of_any_members_data_is_noticed(content, tmp_path):
    path = tmp_path / "a.metricad"
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    assert len(entries) == 19
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
    sums = bundle.read_manifest(part)["sha256"] | {"prototype/mean.npy": "0" * 64}
    path = repack(part, tmp_path / "a.metricad", manifest={"sha256": sums})
    with pytest.raises(BundleError, match=r"the checksum of prototype/mean\.npy is wrong"):
        bundle.load(path)


@pytest.mark.parametrize("member", ["network__00", "prototype__mean", "calibration__scores"])
def test_a_missing_member_is_refused_whether_the_manifest_names_it_or_not(part, tmp_path, member):
    path = repack(part, tmp_path / "a.metricad", **{member: None})
    with pytest.raises(BundleError, match="incomplete or contradictory"):
        bundle.load(path)
    sums = bundle.read_manifest(part)["sha256"]
    path = repack(part, tmp_path / "b.metricad", manifest={"sha256": sums}, **{member: None})
    with pytest.raises(BundleError, match="damaged"):
        bundle.load(path)


def test_a_positional_bundle_with_too_few_covariances_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    detector = TripletDetector(network.build(2, seed=0), PositionalPrototype())
    detector.fit([texture(rng) for _ in range(3)])  # 17×17 features: 5×5 tiles
    assert detector.prototype.covariance.shape == (5, 5, 1, 2, 2)
    bundle.save(Inspector(detector, calibrate(rng.random(20), 0.1)), tmp_path / "a.metricad")
    fewer = npy(detector.prototype.covariance[:4])
    path = repack(tmp_path / "a.metricad", tmp_path / "b.metricad", prototype__covariance=fewer)
    with pytest.raises(BundleError, match=r"contradictory bundle .*expected covariances \(5, 5, 1, 2, 2\)"):
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
    ],
    ids=["object array", "pickle", "open bracket", "unknown version", "empty"],
)
def test_nothing_but_plain_arrays_is_read(part, tmp_path, content):
    path = repack(part, tmp_path / "a.metricad", calibration__scores=content)
    with pytest.raises(BundleError, match="no plain array; not read"):
        bundle.load(path)


@pytest.mark.parametrize(
    "manifest",
    [
        {"network": {"units": 5}},
        {"network": {}},
        {"network": {"units": 0}},
        {"prototype": {"kind": "oracle"}},
        {"prototype": {"kind": "mean", "metric": "cosine"}},
        {"prototype": {"kind": "gaussian"}},
        {"prototype": {"kind": "positional"}},
        {"prototype": {"kind": "mean", "unknown": 1}},
        {"calibration": {}},
        {"region": {"kind": "oracle"}},
        {"region": {"kind": "mask"}},
        {"region": {"kind": "foreground", "margin": -1}},
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
        (6, "expected 1 to 5; a newer metricad made it: upgrade"),
        (0, "make the bundle again"),
        (None, "again"),
    ],
)
def test_an_unknown_version_is_refused_with_what_to_do(part, tmp_path, version, advice):
    path = repack(part, tmp_path / "a.metricad", manifest={"format_version": version})
    with pytest.raises(BundleError, match=f"bundle format {version}, .*{advice}"):
        bundle.load(path)


def test_another_kind_of_file_is_refused(tmp_path, part):
    with pytest.raises(BundleError, match="no such file; make a bundle with 'metricad prototype'"):
        bundle.load(tmp_path / "missing.metricad")
    text = tmp_path / "text.metricad"
    text.write_text("no zip")
    with pytest.raises(BundleError, match="no metricad bundle, or a damaged one"):
        bundle.load(text)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(BundleError, match="no metricad bundle"):
        bundle.load(tmp_path / "other.zip")
    with pytest.raises(BundleError, match="a zip file, but no metricad bundle"):
        bundle.load(repack(part, tmp_path / "foreign.zip", manifest={"format": "other"}))
