"""The defaults of a training: the paper's, and those that it leaves open; the command line has the same."""

import inspect
from dataclasses import asdict

from metricad.cli import options
from metricad.cli.train import train
from metricad.training.settings import Settings

PAPER = {
    "units": 16,
    "rounds": 6,
    "epochs": 15,
    "batch_size": 256,
    "learning_rate": 1e-4,
    "pyramid": (512, 256, 128, 64),
}
OURS = {
    "triplets_per_round": 3_840,
    "mix": None,
    "noise_share": 0.5,
    "noise_side": (4, 16),
    "noise_strength": (0.05, 0.6),
    "noise_is_relative": False,
    "enlarges": True,
    "metric": "euclidean",
    "seed": 0,
}


def test_defaults_are_the_papers_where_it_has_one():
    assert asdict(Settings()) == PAPER | OURS


def test_the_command_line_has_the_same_defaults():
    given = {one.name: one.default for one in inspect.signature(train).parameters.values()}
    found = {name: given[name] for name in asdict(Settings()) if name in given}
    found |= {
        "triplets_per_round": given["triplets"],
        "noise_is_relative": given["noise_relative"],
        "enlarges": not given["never_enlarge"],
    }
    for name, kind in {"pyramid": int, "noise_side": int, "noise_strength": float}.items():
        found[name] = options.read_numbers(given[name], kind, f"--{name}")
    assert found == asdict(Settings())
