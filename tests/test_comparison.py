"""What is put beside what: networks with their controls on every surface, bundles on their own."""

import numpy as np
import pytest
from conftest import make_run, scratched, texture

from metricad import comparison, methods, runs
from metricad.datasets import Sample, Surface
from metricad.errors import BundleError, DataError, RunError
from metricad.prototype import GaussianPrototype, MeanPrototype
from metricad.settings import Settings


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
    return [(task.surface.name, task.method.name, task.method.role) for task in tasks]


def test_a_network_stands_beside_itself_untrained_and_the_baseline(run_folder):
    tasks = comparison.plan(SURFACES, [], [run_folder], kinds=["mean", "gaussian"], metric="manhattan")
    for_each = [
        ("per-pixel variation", "baseline"),
        ("mean manhattan", "trained"),
        ("gaussian", "trained"),
        ("mean manhattan", "untrained"),
        ("gaussian", "untrained"),
    ]
    assert described(tasks) == [(one.name, *method) for one in SURFACES for method in for_each]
    networks = [task.method for task in tasks if task.method.role != "baseline"]
    assert {(method.network, method.units, method.seed) for method in networks} == {("run", 4, 3)}


def test_the_untrained_network_is_the_trained_one_before_its_training(tmp_path):
    run = runs.start(tmp_path / "run", Settings(units=2, seed=8), {"seen": []})
    from metricad import network

    trained = network.build(2, seed=8)
    before = trained.get_weights()
    trained.set_weights([weights + 1 for weights in before])
    runs.finish(run, trained)
    detectors = {method.role: method.make() for method in methods.of_network(run, ["mean"])}
    for found, expected in zip(detectors["untrained"].model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    for found, expected in zip(detectors["trained"].model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected + 1)


def test_each_surface_gets_a_prototype_of_its_own(run_folder):
    (method, *_) = methods.of_network(run_folder, ["mean"])
    first, second = method.make(), method.make()
    assert first.prototype is not second.prototype
    assert first.model is second.model


def test_a_bundle_is_put_on_the_surface_of_its_name(part, tmp_path):
    named = tmp_path / "wood.metricad"
    named.write_bytes(part.read_bytes())
    *controls, last = comparison.plan(SURFACES, [named], [])
    assert described(controls) == [(one.name, "per-pixel variation", "baseline") for one in SURFACES]
    assert described([last]) == [("wood", "wood: mean euclidean", "bundle")]
    assert last.method.is_fitted
    assert last.method.threshold > 0


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


def test_every_task_gives_a_result_and_an_example_in_its_order(run_folder, part):
    surfaces = [surface("steel", fit=6), surface("wood", good=2, defects=3)]
    tasks = comparison.plan(surfaces[:1], [part], [run_folder], kinds=["mean"])
    tasks += comparison.plan(surfaces[1:], [], [])
    announced = []
    results, examples = comparison.run(tasks, on_image=lambda: announced.append(1))
    assert [(one.surface, one.method, one.role) for one in results] == described(tasks)
    assert [example.name for example in examples] == ["steel/bad1"] * 4 + ["wood/bad1"]
    assert len(announced) == sum(task.image_count for task in tasks) == 3 * 11 + 5 + 9
    assert [one.fit_normals for one in results] == [6, 6, 6, 0, 4]
    # A scratch is easy; a pixel's own variation is blind on a surface that is not in register.
    assert all(one.auroc == 1 for one in results if one.role in ("trained", "bundle"))


def test_two_seeds_of_one_network_are_two_methods(tmp_path):
    networks = [make_run(tmp_path / f"seed{seed}", units=2, seed=seed) for seed in (1, 2)]
    tasks = comparison.plan(SURFACES[:1], [], networks)
    found = [(task.method.network, task.method.seed) for task in tasks if task.method.role == "trained"]
    assert found == [("seed1", 1), ("seed2", 2)]


def test_prototypes_by_name():
    assert isinstance(methods.empty_prototype("gaussian"), GaussianPrototype)
    assert methods.empty_prototype("mean").metric == "euclidean"
    manhattan = methods.empty_prototype("mean", metric="manhattan")
    assert isinstance(manhattan, MeanPrototype)
    assert manhattan.metric == "manhattan"
    with pytest.raises(ValueError, match="kind must be one of mean, gaussian, received 'median'"):
        methods.empty_prototype("median")
    with pytest.raises(ValueError, match="a gaussian prototype has a metric of its own"):
        methods.empty_prototype("gaussian", metric="manhattan")
