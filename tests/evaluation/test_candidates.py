"""Published methods beside metricad's own: named, recorded, trained and gone on with, in one report."""

import dataclasses
import json

import numpy as np
import pytest

from metricad import methods
from metricad.data.datasets import Sample, Surface
from metricad.evaluation import results
from tests.helpers import COLLECTING, save, scratched, texture

if not COLLECTING:
    from sklearn.manifold import trustworthiness

    from metricad.evaluation import candidates, comparison, protocol
    from metricad.evaluation.protocol import Method
    from metricad.reporting import embeddings

pytestmark = pytest.mark.tf

SIDE = 96


@pytest.fixture(scope="module")
def surface(tmp_path_factory):
    """Stripes in the MVTec layout, of a size that the network takes."""
    root = tmp_path_factory.mktemp("compared") / "parts" / "stripes"
    rng = np.random.default_rng(0)
    for number in range(6):
        save(root / "train" / "good" / f"{number}.png", texture(rng, side=SIDE))
    for number in range(3):
        save(root / "test" / "good" / f"{number}.png", texture(rng, side=SIDE))
        scratch = scratched(texture(rng, side=SIDE), *rng.integers(30, 60, 2), side=16)
        save(root / "test" / "scratch" / f"{number}.png", scratch)
    return root


# By name.


@pytest.mark.parametrize("name", methods.Method)
def test_a_method_is_imported_by_its_name(name):
    assert callable(methods.detector_class(name).fit)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="cae-kde"):
        methods.detector_class("cae")


def test_a_method_as_published_has_its_plain_name_and_all_its_settings():
    method = candidates.of_name("f-anogan")
    assert (method.name, method.role, method.seed, method.epochs) == ("f-anogan", "compared", 0, 1500)
    assert method.settings["latent"] == 100
    assert method.settings["learning_rate"] == 0.0002
    assert "checkpoint" not in method.settings
    json.dumps(method.settings)


def test_a_shortened_training_says_so():
    method = candidates.of_name("autoencoder", epochs=7)
    assert method.name == "autoencoder (7 of 300 epochs)"
    assert method.settings["epochs"] == method.epochs == method.make().epochs == 7
    assert candidates.of_name("autoencoder", epochs=300).name == "autoencoder"


def test_random_weights_are_named_and_a_files_folder_is_not(tmp_path):
    assert candidates.of_name("patch-bank", weights="none").name == "patch-bank (random weights)"
    method = candidates.of_name("patch-bank", weights=tmp_path / "own.weights.h5")
    assert method.name == "patch-bank"
    assert method.settings["weights"] == "own.weights.h5"
    assert candidates.of_name("patch-bank").settings["weights"] == "imagenet"


def test_another_network_and_another_size_are_named_and_kept_in_bounds():
    lite = "efficientnet-lite2"
    method = candidates.of_name("patch-gaussian", weights=lite, side=512)
    assert method.name == "patch-gaussian (EfficientNet-Lite2, 512 pixels)"
    expected = {"backbone": "EfficientNetLite2", "weights": "imagenet", "side": 512, "dimensions": 100}
    assert method.settings.items() >= expected.items()
    assert candidates.of_name("patch-bank", side=512).settings["most"] == 10_000
    assert candidates.of_name("patch-gaussian", weights=lite, side=256).settings["dimensions"] == 550
    assert candidates.of_name("patch-bank", side=224).name == "patch-bank"  # as published
    assert candidates.of_name("cpcae-knn", weights=lite, side=256).settings["map_side"] == 256
    with pytest.raises(ValueError, match="at least 32 pixels for EfficientNetLite2"):
        candidates.of_name("deep-feature-knn", weights=lite, side=16)


def test_only_methods_that_are_resized_run_at_every_size():
    made = candidates.of_names(["nearest-image", "patch-bank"], epochs={}, sides=[224, 256])
    assert [one.name for one in made] == ["nearest-image", "patch-bank", "patch-bank (256 pixels)"]


def test_what_a_method_has_no_use_for_changes_nothing():
    plain = candidates.of_name("nearest-image")
    unused = {"epochs": 3, "weights": "none", "side": 64}
    assert candidates.of_name("nearest-image", **unused).settings == plain.settings
    assert candidates.of_name("nearest-image", weights="efficientnet-lite2").settings == plain.settings
    assert plain.epochs == 0


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"method must be one of cae-kde, .*, received 'magic'"):
        candidates.of_name("magic")


@pytest.mark.parametrize("option", ["--epochs", "--resize", "--weights"])
def test_options_of_methods_without_a_method_are_refused(option, refused, tmp_path):
    message = refused("evaluate", "--data", tmp_path, "--out", tmp_path / "r.json", option, 3)
    assert "only apply to published methods" in message


# Training.


class Counting:
    """A detector whose training is to count; it remembers in its folder how far it came."""

    def __init__(self, *, epochs=4, fails_after=None, checkpoint=None, on_epoch=lambda: None):
        self.epochs, self.fails_after, self.checkpoint, self.on_epoch = (
            epochs,
            fails_after,
            checkpoint,
            on_epoch,
        )

    def fit(self, images):
        self.mean = np.mean([image.mean() for image in images])
        kept = self.checkpoint / "done"
        self.checkpoint.mkdir(parents=True, exist_ok=True)
        for number in range(int(kept.read_text()) if kept.exists() else 0, self.epochs):
            if number == self.fails_after:
                raise KeyboardInterrupt
            kept.write_text(str(number + 1))
            self.on_epoch()
        return self

    def anomaly_map(self, image):
        return np.abs(image - self.mean).astype(np.float32)

    def score(self, image):
        return float(self.anomaly_map(image).max())

    def embedding(self, image):
        return np.array([image.mean(), image.std(), 1.0], np.float32)


def flat(name, value, kind="good"):
    return Sample(name, kind, lambda: np.full((4, 4), value, np.float32), None)


FLAT = Surface(
    "made", "flat", tuple(flat(f"fit{i}", 0.1 * i) for i in range(3)),
    (flat("good0", 0.1), flat("good1", 0.2), flat("defect0", 0.9, "hole")),
)  # fmt: skip


def test_an_interrupted_training_is_gone_on_with(tmp_path):
    method = Method("counting", "compared", Counting, epochs=4)
    broken = dataclasses.replace(method, make=lambda **named: Counting(fails_after=2, **named))
    with pytest.raises(KeyboardInterrupt):
        protocol.evaluate([broken], FLAT, checkpoints=tmp_path)
    steps = []
    (found,) = protocol.evaluate([method], FLAT, checkpoints=tmp_path, on_image=lambda: steps.append(1))
    assert found.result.auroc == 1
    assert len(steps) == protocol.step_count([method], FLAT) - 2  # two epochs were done before


def test_surfaces_that_are_done_are_not_done_again_unless_something_changed(tmp_path):
    class Stop(Exception):
        pass

    fitted = []

    class Noted(Counting):
        def fit(self, images):
            fitted.append(len(images))
            return super().fit(images)

    def stopping():
        raise Stop

    method = Method("counting", "compared", lambda **named: Noted(epochs=1, **named), epochs=1)
    broken = dataclasses.replace(FLAT.test[0], read=stopping)
    other = dataclasses.replace(FLAT, name="other")
    kept = {"checkpoints": tmp_path / "trained", "finished": tmp_path / "kept"}
    tasks = [comparison.Task((method,), surface) for surface in (FLAT, other)]
    bad = comparison.Task((method,), dataclasses.replace(other, test=(broken, *other.test[1:])))
    unbroken = comparison.run(tasks, is_embedded=True, checkpoints=tmp_path / "unbroken")
    assert len(fitted) == 2
    with pytest.raises(Stop):
        comparison.run([tasks[0], bad], is_embedded=True, **kept)
    assert len(fitted) == 3
    steps = []
    resumed = comparison.run(
        tasks,
        is_embedded=True,
        checkpoints=tmp_path / "c",
        finished=tmp_path / "kept",
        on_image=lambda: steps.append(1),
    )
    assert len(fitted) == 4
    assert len(steps) == sum(task.step_count for task in tasks)
    assert resumed.results == unbroken.results
    for one, same in zip(resumed.embeddings, unbroken.embeddings, strict=True):
        np.testing.assert_array_equal(one, same)
    for one, same in zip(resumed.examples, unbroken.examples, strict=True):
        assert [each.name for each in one] == [each.name for each in same]
        np.testing.assert_array_equal(one[0].anomaly_map, same[0].anomaly_map)

    again = dataclasses.replace(FLAT, test=(*FLAT.test[:2], flat("defect0", 0.8, "hole")))
    comparison.run(
        [comparison.Task((method,), again)],
        is_embedded=True,
        checkpoints=tmp_path / "c",
        finished=tmp_path / "kept",
    )
    assert len(fitted) == 5
    comparison.run(
        tasks,
        is_embedded=True,
        checkpoints=tmp_path / "c",
        finished=tmp_path / "kept",
        identity="another network",
    )
    assert len(fitted) == 7


def test_every_surface_and_setting_trains_in_a_folder_of_its_own(tmp_path):
    other = dataclasses.replace(FLAT, name="other")
    for surface in (FLAT, other):
        for settings in ({"epochs": 4}, {"epochs": 5}):
            method = Method("counting", "compared", Counting, epochs=4, settings=settings)
            protocol.evaluate([method], surface, checkpoints=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_method_without_a_map_has_no_pixel_metrics_and_no_pictures(tmp_path):
    class Mapless(Counting):
        has_map = False

    masked = dataclasses.replace(FLAT.test[2], read_mask=lambda: np.eye(4, dtype=bool))
    known = dataclasses.replace(FLAT, test=(*FLAT.test[:2], masked))
    for kind, has_map in ((Counting, True), (Mapless, False)):
        method = Method("counting", "compared", kind, epochs=1)
        (found,) = protocol.evaluate([method], known, checkpoints=tmp_path)
        assert (found.result.pixel_auroc is not None) == has_map
        assert (found.result.aupro is not None) == has_map
        assert bool(found.examples) == has_map


# Embeddings.


def test_embeddings_are_kept_when_asked_for(tmp_path):
    method = Method("counting", "compared", Counting, epochs=1)
    control = Method("also", "baseline", Counting, epochs=1)
    tasks = [comparison.Task((control, method), FLAT)]
    study = comparison.run(tasks, checkpoints=tmp_path / "t", is_embedded=True)
    assert study.embeddings[0] is None
    assert study.embeddings[1].shape == (3, 3)
    # Principal components: as far apart as the embeddings themselves.
    apart = np.linalg.norm(study.embeddings[1][0] - study.embeddings[1][2])
    assert apart == pytest.approx(0.8, abs=1e-5)
    results.save(tmp_path / "r.json", study)
    read = results.load(tmp_path / "r.json")
    np.testing.assert_array_equal(read.embeddings[1], study.embeddings[1])
    assert comparison.run(tasks, checkpoints=tmp_path / "t").embeddings == []


def test_merged_studies_keep_each_results_embedding(tmp_path):
    method = Method("counting", "compared", Counting, epochs=1)
    tasks = [comparison.Task((method,), FLAT)]
    without, with_them = (
        comparison.run(tasks, checkpoints=tmp_path, is_embedded=is_embedded) for is_embedded in (False, True)
    )
    merged = results.merge([without, with_them])
    assert merged.embeddings[0] is None
    assert merged.embeddings[1].shape == (3, 3)
    assert results.merge([without, without]).embeddings == []


@pytest.mark.slow
def test_a_plot_keeps_neighbours_and_is_the_same_every_time():
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(size=(30, 20)), 8 + rng.normal(size=(30, 20))]).astype(np.float32)
    places = embeddings.flattened(vectors)
    assert places.shape == (60, 2)
    assert trustworthiness(vectors, places, n_neighbors=5) > 0.8
    np.testing.assert_array_equal(embeddings.flattened(vectors), places)


@pytest.mark.parametrize("count", [4, 5, 31])
def test_few_images_can_be_plotted(count):
    vectors = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    assert np.isfinite(embeddings.flattened(vectors)).all()


def test_images_that_are_all_alike_can_be_plotted():
    assert np.isfinite(embeddings.flattened(np.zeros((8, 3), np.float32))).all()


# Through the command line.


@pytest.mark.slow
def test_from_methods_to_a_report_with_embeddings(run_metricad, surface, tmp_path):
    out = tmp_path / "results.json"
    done = run_metricad(
        "evaluate", "--data", surface.parent, "--network", "fast", "--method", "nearest-image", "--method",
        "denoising", "--epochs", 1, "--embedding", "--out", out,
    )  # fmt: skip
    assert (done.status, done.err) == (0, "")
    document = json.loads(out.read_text())
    rows = {row["method"]: row for row in document["results"] if row["role"] == "compared"}
    assert list(rows) == ["nearest-image", "denoising (1 of 100 epochs)"]
    assert rows["denoising (1 of 100 epochs)"]["settings"]["epochs"] == 1
    assert not out.with_name("results.training").exists()
    for name in rows:
        assert name in done.out

    done = run_metricad("report", out, "--out", tmp_path / "report", "--embedding")
    assert (done.status, done.err) == (0, "")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "2 published methods: nearest-image, denoising (1 of 100 epochs)." in text
    assert "Published methods and their settings" in text
    assert "a control is missing" not in text  # there is no untrained autoencoder to ask for
    assert "embeddings-0.png" in text
    assert "precision-recall.png" in text
    assert (tmp_path / "report" / "embeddings-0.png").stat().st_size > 1000


def test_a_report_of_embeddings_that_were_not_kept_is_refused(run_metricad, refused, surface, tmp_path):
    out = tmp_path / "results.json"
    done = run_metricad("evaluate", "--data", surface.parent, "--network", "fast", "--out", out)
    assert done.status == 0
    message = refused("report", out, "--out", tmp_path / "report", "--embedding")
    assert (
        "there are no embeddings in these results; expected those of 'metricad evaluate --embedding'"
        in message
    )
