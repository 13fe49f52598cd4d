"""What is put beside what: networks with their controls on every surface, bundles on their own."""

import numpy as np
import pytest

from metricad.data.datasets import Sample, Surface
from metricad.errors import BundleError, DataError, RunError
from metricad.training.settings import Settings
from tests.helpers import COLLECTING, scratched, texture

if not COLLECTING:
    from metricad.evaluation import candidates, comparison
    from metricad.networks import hypercolumn, pretrained
    from metricad.training import runs

pytestmark = pytest.mark.tf


def sample(name, image, kind="good"):
    return Sample(name, kind, lambda: image)


def surface(name, *, fit=4, good=3, defects=2):
    rng = np.random.default_rng(0)
    return Surface(
        "made",
        name,
        tuple(sample(f"{name}/fit{i}", texture(rng)) for i in range(fit)),
        (
            *(sample(f"{name}/good{i}", texture(rng)) for i in range(good)),
            *(sample(f"{name}/bad{i}", scratched(texture(rng), 20, 30), "scratch") for i in range(defects)),
        ),
    )


SURFACES = [surface("steel"), surface("wood", fit=5)]


def described(tasks):
    return [(task.surface.name, method.name, method.role) for task in tasks for method in task.methods]


def test_a_network_stands_beside_itself_untrained_and_the_baseline(run_folder):
    tasks = comparison.plan(SURFACES, [], [run_folder], kinds=["mean", "gaussian"], metrics=["manhattan"])
    for_each = [
        ("per-pixel variation", "baseline"),
        ("mean manhattan", "trained"),
        ("gaussian", "trained"),
        ("mean manhattan", "untrained"),
        ("gaussian", "untrained"),
    ]
    assert described(tasks) == [(one.name, *method) for one in SURFACES for method in for_each]
    networks = [method for task in tasks for method in task.methods if method.role != "baseline"]
    assert {(method.network, method.units, method.seed) for method in networks} == {("run", 4, 3)}


def test_a_network_that_ships_and_the_papers_have_controls_and_prototypes_of_their_own(run_folder):
    (task,) = comparison.plan(SURFACES[:1], [], ["fast", run_folder])
    found = [(one.role, one.network, one.name, one.architecture, one.seen) for one in task.methods]
    assert found == [
        ("baseline", None, "per-pixel variation", None, None),
        ("trained", "fast", "auto", "hypercolumn", ()),
        ("untrained", "fast", "auto", "hypercolumn", None),
        ("trained", "run", "mean euclidean", None, []),
        ("untrained", "run", "mean euclidean", None, None),
    ]
    trained, untrained = (task.methods[k].make().network for k in (1, 2))
    shipped, begun = pretrained.load("fast"), hypercolumn.build(pretrained.UNITS["fast"], seed=0)
    for model, expected in ((trained, shipped), (untrained, begun)):
        for weights, others in zip(model.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_array_equal(weights, others)


def test_kinds_that_are_named_are_for_every_network(run_folder):
    (task,) = comparison.plan(SURFACES[:1], [], ["fast", run_folder], kinds=["gaussian"])
    assert {one.name for one in task.methods if one.role != "baseline"} == {"gaussian"}


def test_the_record_of_what_ships_needs_no_run():
    study = comparison.study([], ["accurate", "fast"])
    assert [(one.name, one.units, one.settings) for one in study.networks] == [
        ("accurate", 16, {}),
        ("fast", 16, {}),
    ]
    assert study.networks[1].trained_on == list(pretrained.TRAINED_ON)
    assert study.training_seconds == {}


def test_the_untrained_network_is_the_trained_one_before_its_training(tmp_path):
    run = runs.start(tmp_path / "run", Settings(units=2, seed=8), {"seen": []})
    from metricad.networks import residual as network

    trained = network.build(2, seed=8)
    before = trained.get_weights()
    trained.set_weights([weights + 1 for weights in before])
    runs.finish(run, trained)
    detectors = {method.role: method.make() for method in candidates.of_run(run, ["mean"])}
    for found, expected in zip(detectors["untrained"].network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    for found, expected in zip(detectors["trained"].network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected + 1)


def test_each_surface_gets_a_detector_of_its_own(run_folder):
    (method, *_) = candidates.of_run(run_folder, ["mean"])
    first, second = method.make(), method.make()
    assert first is not second
    assert first.network is second.network


def test_a_bundle_is_put_on_the_surface_of_its_name(part, tmp_path):
    named = tmp_path / "wood.metricad"
    named.write_bytes(part.read_bytes())
    tasks = comparison.plan(SURFACES, [named], [])
    assert described(tasks) == [
        *((one.name, "per-pixel variation", "baseline") for one in SURFACES),
        ("wood", "wood: mean euclidean", "bundle"),
    ]
    bundle = tasks[-1].methods[-1]
    assert bundle.is_fitted
    assert bundle.threshold > 0
    assert bundle.false_alarm_rate == 0.1


def test_of_a_single_surface_the_bundle_may_have_any_name(part):
    tasks = comparison.plan(SURFACES[:1], [part], [])
    assert described(tasks)[-1] == ("steel", "part: mean euclidean", "bundle")


def test_a_bundle_of_no_surface_is_refused_with_the_names_there_are(part):
    with pytest.raises(DataError, match=r"part\.metricad: no surface of this name .*\(steel, wood\)"):
        comparison.plan(SURFACES, [part], [])


def test_a_network_that_has_seen_a_test_image_is_refused_before_anything_runs(tmp_path):
    seen = [{"dataset": "made", "labelled": {"wood": ["wood/good1", "wood/fit0"]}}]
    run = runs.start(tmp_path / "run", Settings(units=2), {"seen": seen})
    with pytest.raises(DataError, match="1 test images of wood were trained on"):
        comparison.plan(SURFACES, [], [run])
    # What it may see are the images to learn from.
    seen[0]["labelled"]["wood"].remove("wood/good1")
    run = runs.start(tmp_path / "other", Settings(units=2), {"seen": seen})
    with pytest.raises(RunError, match="no weights here"):
        comparison.plan(SURFACES, [], [run])


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(RunError, match="no training run here"):
        comparison.plan(SURFACES, [], [tmp_path])
    with pytest.raises(BundleError, match="no such file"):
        comparison.plan(SURFACES, [tmp_path / "a.metricad"], [])


def test_every_task_gives_results_in_its_order(run_folder, part):
    surfaces = [surface("steel", fit=6), surface("wood", good=2, defects=3)]
    tasks = comparison.plan(surfaces[:1], [part], [run_folder], kinds=["mean"])
    tasks += comparison.plan(surfaces[1:], [], [])
    announced = []
    study = comparison.run(tasks, [run_folder], on_image=lambda: announced.append(1))
    assert [(one.surface, one.method, one.role) for one in study.results] == described(tasks)
    assert len(announced) == sum(task.step_count for task in tasks) == 11 + 9
    assert [one.fit_normals for one in study.results] == [6, 6, 6, 0, 4]
    pictured = [bool(shown) for shown in study.examples]
    assert pictured == [one.role in ("trained", "bundle") for one in study.results]
    (network,) = study.networks
    assert (network.name, network.units, network.seed) == ("run", 4, 3)
    assert network.settings["rounds"] == Settings().rounds
    assert study.training_seconds == {"run": 0}
    assert network.epoch_loss == []
