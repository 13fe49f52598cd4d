"""What the scripts that put published methods beside metricad's own share: options, and sizes."""

import argparse

import numpy as np
import pytest

from tests.helpers import COLLECTING, texture

if not COLLECTING:
    import keras
    import rivals
    from sklearn.neighbors import NearestNeighbors

    from metricad.data.datasets import Sample, Surface
    from metricad.evaluation import candidates

pytestmark = pytest.mark.tf


def options(*words):
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", action="append")
    rivals.add_options(parser)
    return parser, parser.parse_args(words)


def test_a_command_names_no_folder(tmp_path):
    given = [
        "--method",
        "cae-kde",
        "--epochs",
        "cae-kde=3",
        "--resize",
        "256",
        "--weights",
        str(tmp_path / "w.h5"),
    ]
    parser, chosen = options(*given)
    assert rivals.epochs(parser, chosen) == {"cae-kde": 3}
    assert rivals.words(chosen) == [*given[:4], "--weights", "w.h5", "--resize", "256"]
    assert rivals.words(options()[1]) == []


def test_data_are_named_without_the_folders_that_they_lie_in(tmp_path):
    for folder in ("prepared/tiles", "parts/wood"):
        (tmp_path / folder).mkdir(parents=True)
    given = [tmp_path / "prepared/tiles", tmp_path / "parts", f"{tmp_path}/parts:wood,steel", "dagm:class1"]
    chosen = argparse.Namespace(data=list(map(str, given)), data_dir=str(tmp_path / "prepared"))
    expected = ["PREPARED/tiles", "parts", "parts:wood,steel", "dagm:class1"]
    words = [word for name in expected for word in ("--data", name)]
    assert rivals.sources(chosen) == [*words, "--data-dir", "PREPARED"]
    chosen.data_dir = None
    assert rivals.sources(chosen) == [word.replace("PREPARED/", "") for word in words]


def test_epochs_of_no_method_are_refused(capsys):
    with pytest.raises(SystemExit):
        rivals.epochs(*options("--epochs", "cae=3"))
    assert "--epochs names no method: cae" in capsys.readouterr().err


def test_fewer_images_are_spread_over_all():
    samples = [Sample(f"{k:02}", "good" if k < 20 else "hole", None) for k in range(30)]
    surface = Surface("made", "tile", tuple(samples[:10]), tuple(samples[10:]))
    found = rivals.fewer(surface, 3)
    assert [one.name for one in found.fit] == ["00", "04", "09"]
    assert [one.name for one in found.test] == ["10", "14", "19", "20", "24", "29"]
    assert rivals.fewer(surface, None) is surface
    assert rivals.fewer(surface, 10) == surface


def test_arrays_networks_and_estimators_are_counted_once():
    array = np.zeros((10, 3), np.float32)
    assert rivals.size_of([array, array, {"again": array, "name": "x", "number": 3}]) == array.nbytes
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    assert rivals.size_of((model, model)) == 4 * (4 * 2 + 2)
    fitted = NearestNeighbors().fit(np.zeros((7, 5)))
    assert rivals.size_of(fitted) >= 7 * 5 * 8
    assert rivals.size_of(lambda: array) == 0


def test_a_method_is_what_it_keeps():
    rng = np.random.default_rng(0)
    images = [texture(rng, side=96) for _ in range(3)]
    nearest = candidates.of_name("nearest-image").make().fit(images)
    assert rivals.size_of([nearest]) == 3 * 96 * 96 * 4
    (own, _) = candidates.of_network("accurate")
    detector = own.make().fit(images)
    layers = [
        detector.network,
        *detector.densities,
        detector.standardize,
        detector.fuse,
        detector.score_layer,
    ]
    arrays = [array for layer in layers for array in layer.get_weights()]
    assert rivals.size_of([detector]) == sum(array.nbytes for array in arrays)
    assert rivals.size_of(own.make()) == sum(array.nbytes for array in detector.network.get_weights())
