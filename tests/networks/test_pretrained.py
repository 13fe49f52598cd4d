"""The default, from a folder of good images to a report, through the command line; nothing is trained."""

import json

import numpy as np
import pytest

from tests.helpers import COLLECTING, save, scratched, texture

if not COLLECTING:
    from metricad.inspection import bundle
    from metricad.networks import pretrained

pytestmark = pytest.mark.tf

SIDE = 128
ENOUGH = ["--holdout", 0.4, "--false-alarm-rate", 0.25]


@pytest.fixture(scope="module")
def surface(tmp_path_factory):
    """Stripes in the MVTec layout, of a size that the network takes."""
    root = tmp_path_factory.mktemp("shipped") / "parts" / "stripes"
    rng = np.random.default_rng(0)
    for number in range(10):
        save(root / "train" / "good" / f"{number}.png", texture(rng, side=SIDE))
    for number in range(3):
        save(root / "test" / "good" / f"{number}.png", texture(rng, side=SIDE))
        scratch = scratched(texture(rng, side=SIDE), *rng.integers(40, 80, 2), side=16)
        save(root / "test" / "scratch" / f"{number}.png", scratch)
    return root


@pytest.mark.slow
def test_a_prototype_needs_no_training_and_no_option(run_metricad, surface, tmp_path):
    part = tmp_path / "part.metricad"
    done = run_metricad("prototype", surface / "train" / "good", "--out", part, *ENOUGH)
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"{part}: {bundle.load(part).detector.description} (held-out log-likelihood ")
    assert " above that of a Gaussian at each position), from 6 gray images; threshold " in done.out
    assert "; 4 held-out good images: at most 1 false alarm in 4 promised" in done.out
    manifest = bundle.read_manifest(part)
    assert manifest["network"] == {"architecture": "hypercolumn-three-scales", "units": 16}
    assert manifest["kind"] == "auto"
    assert manifest["layers"]["score"] == {"layer": "ImageScore", "score": "top-1%"}
    for found, shipped in zip(
        bundle.load(part).detector.network.get_weights(), pretrained.load().get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, shipped)

    done = run_metricad("inspect", part, surface / "test", "--format", "jsonl")
    assert (done.status, done.err) == (0, "")
    scores = {"good": [], "scratch": []}
    for row in map(json.loads, done.out.splitlines()):
        scores[row["path"].split("/")[-2]].append(row["score"])
    assert min(scores["scratch"]) > max(scores["good"])


def test_the_fast_network_and_the_other_kinds(run_metricad, surface, tmp_path):
    part = tmp_path / "part.metricad"
    good = surface / "train" / "good"
    done = run_metricad(
        "prototype", good, "--out", part, "--network", "fast", "--metric", "manhattan", *ENOUGH
    )
    assert done.out.startswith(f"{part}: manhattan distance to the mean, from 6 gray images; ")
    manifest = bundle.read_manifest(part)
    assert manifest["network"]["units"] == pretrained.UNITS["fast"]
    assert manifest["kind"] == "mean"
    assert manifest["layers"]["density0"]["metric"] == "manhattan"


def test_the_papers_method_by_one_word(run_metricad, good_folder, run_folder, tmp_path):
    part, other = tmp_path / "part.metricad", tmp_path / "other.metricad"
    command = ["prototype", good_folder, "--network", run_folder, "--holdout", 0.3, "--false-alarm-rate", 0.1]
    done = run_metricad(*command, "--out", part, "--preset", "paper", "--kind", "mean")
    assert done.out.startswith(f"{part}: euclidean distance to the mean, from 21 gray images; ")
    manifest = bundle.read_manifest(part)
    assert manifest["network"]["architecture"] == "staar2018"
    assert manifest["layers"]["density0"]["metric"] == "euclidean"
    assert manifest["layers"]["score"]["score"] == "max"
    # On a run's network it is also what comes of no choice.
    run_metricad(*command, "--out", other)
    assert bundle.load(other).threshold == bundle.load(part).threshold


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "paper"], "--preset paper needs the paper's network: give --network RUN"),
        (["--preset", "paper", "--network", "fast"], "needs the paper's network"),
        (["--preset", "paper", "--network", "run", "--kind", "gaussian"], "leave out the preset, or --kind"),
        (
            ["--preset", "paper", "--network", "run", "--metric", "manhattan"],
            "leave out the preset, or --kind",
        ),
        ([*ENOUGH, "--kind", "auto", "--metric", "manhattan"], "the auto density has its own metric"),
        ([*ENOUGH, "--network", "accurrate"], "did you mean 'accurate'?"),
        ([*ENOUGH, "--network", "my-run"], "my-run: no training run here"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_what_does_not_go_together_is_one_line(refused, surface, tmp_path, arguments, words):
    out = tmp_path / "part.metricad"
    assert words in refused("prototype", surface / "train" / "good", "--out", out, *arguments)
    assert not out.exists()


@pytest.mark.slow
def test_the_default_is_evaluated_beside_its_controls(run_metricad, surface, tmp_path):
    results = tmp_path / "results.json"
    done = run_metricad("evaluate", "--data", surface.parent, "--out", results, "--false-alarm-rate", 0.4)
    assert (done.status, done.err) == (0, "")
    document = json.loads(results.read_text())
    found = {(row["role"], row["network"], row["method"]): row for row in document["results"]}
    assert list(found) == [
        ("baseline", None, "per-pixel variation"),
        ("trained", "accurate", "auto"),
        ("untrained", "accurate", "auto"),
    ]
    for (role, *_), row in found.items():
        assert row["is_known"] == (False if role == "trained" else None)
        assert row["architecture"] == (None if role == "baseline" else "hypercolumn-three-scales")
        assert (row["fit_normals"], row["held_out_normals"]) == (8, 2)
        assert row["threshold"] is not None
    assert found["trained", "accurate", "auto"]["auroc"] == 1
    assert [one["name"] for one in document["networks"]] == ["accurate"]
    assert document["networks"][0]["trained_on"] == list(pretrained.TRAINED_ON)

    done = run_metricad("report", results, "--out", tmp_path / "report")
    assert (done.status, done.err) == (0, "")
    text = (tmp_path / "report" / "report.md").read_text()
    control = "accurate, untrained"
    header = f"| surface | good / defect | accurate | {control} |"
    assert header in text
    assert (
        "free texture photographs; synthetic surfaces 1, 2, 3, 5 and 6, seeds from 1000 on; procedural"
        in text
    )


def test_an_image_too_small_for_it_is_named(refused, surface, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(3):
        save(tmp_path / "parts" / "train" / "good" / f"{number}.png", texture(rng, side=SIDE))
        save(tmp_path / "parts" / "test" / "good" / f"{number}.png", texture(rng, side=67))
        save(tmp_path / "parts" / "test" / "hole" / f"{number}.png", texture(rng, side=SIDE))
    message = refused("evaluate", "--data", tmp_path / "parts", "--out", tmp_path / "r.json")
    assert "test/good/0.png: expected an image of at least 68×68 pixels, received (67, 67)" in message
