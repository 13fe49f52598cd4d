"""The plan of a grid: which networks, which cells, what they need, in which order."""

import pytest

from metricad.data.datasets import Sample, Surface
from metricad.errors import DataError
from metricad.training.settings import Settings
from tests.helpers import COLLECTING

if not COLLECTING:
    from metricad.reproduction import grid
    from metricad.reproduction.grid import PRESETS, Grid, Trained

pytestmark = pytest.mark.tf


def surface(name, dataset="made/small", fit=4, test=3):
    def samples(role, count):
        return tuple(Sample(f"{name}/{role}{i}", "good", lambda: None) for i in range(count))

    return Surface(dataset, name, samples("fit", fit), samples("test", test))


if not COLLECTING:
    SMALL = Grid(
        textures=("cloth",), objects="things", known=("k:a,b",), novel=("n",), units=(4, 8), seeds=(0, 7)
    )
DATA = {"k:a,b": [surface("a"), surface("b")], "n": [surface("c", fit=8)]}


def cells(changed=None, data=DATA):
    return grid.cells(changed or SMALL, data, dict.fromkeys(data, 64 * 64))


def test_the_papers_grid_has_twelve_networks():
    assert [network.name for network in PRESETS["paper"].networks()] == [
        "h16-0", "h16-1", "h16-2", "h16-cifar100-0", "h16-cifar100-1", "h16-cifar100-2",
        "h32-0", "h32-1", "h32-2", "h32-cifar100-0", "h32-cifar100-1", "h32-cifar100-2",
    ]  # fmt: skip
    settings = PRESETS["paper"].settings
    assert (settings.rounds, settings.epochs, settings.batch_size) == (6, 15, 256)
    assert settings.learning_rate == 1e-4
    assert PRESETS["paper"].protocol.holdout == 0  # all 500 good images are in the prototype
    assert PRESETS["paper"].normals == 500
    assert grid.change(PRESETS["paper"], normals=20).normals == 20


@pytest.mark.parametrize("name", ["paper", "surfaces"])
def test_six_surfaces_are_known_and_four_novel(name):
    """The same grid but for the names of the data."""
    preset = PRESETS[name]
    (known,), (novel,) = preset.known, preset.novel
    assert (len(known.split(",")), len(novel.split(","))) == (6, 4)
    assert not set(known.split(":")[1].split(",")) & set(novel.split(":")[1].split(","))
    assert preset.settings == Settings()
    assert (preset.units, preset.seeds) == ((16, 32), (0, 1, 2))


def test_the_synthetic_surfaces_are_those_that_are_rendered():
    from data_prep.surfaces.generator import NAMES

    surfaces = PRESETS["surfaces"]
    named = ",".join(source.split(":")[1] for source in surfaces.known + surfaces.novel)
    assert named.split(",") == list(NAMES)
    quick = PRESETS["quick"]
    assert {name for s in quick.known + quick.novel for name in s.split(":")[1].split(",")} <= set(NAMES)


def test_a_network_is_trained_on_textures_known_surfaces_and_perhaps_objects():
    assert SMALL.sources(Trained(4, None, 0)) == ["cloth", "k:a,b"]
    assert SMALL.sources(Trained(4, "things", 0)) == ["cloth", "k:a,b", "things"]
    assert {network.objects for network in SMALL.networks()} == {None, "things"}
    without = grid.change(PRESETS["quick"])
    assert {network.objects for network in without.networks()} == {None}


def test_every_network_and_its_controls_judge_every_surface():
    found = cells()
    trainings = [cell for cell in found if cell.surface is None]
    assert [cell.name for cell in trainings] == [f"train {n.name}" for n in SMALL.networks()]
    assert found[: len(trainings)] == trainings
    judged = {(cell.folder.split("/")[1], cell.surface) for cell in found if cell.surface}
    surfaces = [("k:a,b", "a"), ("k:a,b", "b"), ("n", "c")]
    judges = [
        *(network.name for network in SMALL.networks()),
        *(f"untrained-h{units}-{seed}" for units in (4, 8) for seed in (0, 7)),  # shared by both settings
        "baseline",
    ]
    assert judged == {(judge, where) for judge in judges for where in surfaces}
    assert len(found) == 8 + 13 * 3


def test_a_cell_needs_its_network_and_has_a_folder_of_its_own():
    found = cells()
    assert len({cell.folder for cell in found}) == len({cell.name for cell in found}) == len(found)
    by_name = {cell.name: cell for cell in found}
    trained = by_name["evaluate h4-things-7 on b"]
    assert trained.needs == "train h4-things-7"
    assert trained.needs in by_name
    assert trained.folder == "evaluations/h4-things-7/made-small-b"
    assert trained.marker == "evaluations/h4-things-7/made-small-b/results.json"
    assert by_name[trained.needs].marker == "networks/h4-things-7/network.npz"
    assert by_name["evaluate untrained-h4-7 on b"].needs is None
    assert by_name["evaluate baseline on b"].needs is None


def test_larger_work_is_estimated_longer():
    by_name = {cell.name: cell.cost for cell in cells()}
    assert by_name["train h8-0"] > by_name["train h4-0"] > 0
    assert by_name["evaluate h8-0 on a"] > by_name["evaluate h4-0 on a"]
    assert by_name["evaluate h4-0 on c"] > by_name["evaluate h4-0 on a"] > 0
    assert by_name["evaluate h4-0 on a"] > by_name["evaluate baseline on a"] > 0


def test_a_surface_must_be_labelled_and_stand_there_once():
    with pytest.raises(DataError, match="n: c has no labeled test images"):
        cells(data={**DATA, "n": [surface("c", test=0)]})
    with pytest.raises(DataError, match="n: a is given twice"):
        cells(data={**DATA, "n": [surface("a")]})
    assert cells(data={**DATA, "n": [surface("a", dataset="another")]})


def test_what_is_given_changes_a_preset():
    changed = grid.change(
        SMALL, textures=["x", "y"], objects="o", known=["dagm"], novel=["tiles"], units=[2], seeds=[5],
        holdout=0.5, rounds=1, epochs=None,
    )  # fmt: skip
    assert (changed.textures, changed.objects) == (("x", "y"), "o")
    assert (changed.known, changed.novel) == (("k:a,b", "dagm"), ("n", "tiles"))
    assert (changed.units, changed.seeds) == ((2,), (5,))
    assert changed.protocol.holdout == 0.5
    assert (changed.settings.rounds, changed.settings.epochs) == (1, Settings().epochs)
    assert grid.change(SMALL) == SMALL
    assert grid.change(SMALL, holdout=0).protocol.holdout == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"units": ()}, "units must be different numbers"),
        ({"seeds": (1, 1)}, "seeds must be different numbers"),
        ({"textures": (), "known": ()}, "nothing to train on"),
        ({"known": (), "novel": ()}, "nothing to test on"),
    ],
)
def test_a_grid_without_sense_is_refused(changes, message):
    fields = {"textures": ("t",), "objects": None, "known": ("k",), "novel": ("n",)}
    with pytest.raises(ValueError, match=message):
        Grid(**fields | changes)
