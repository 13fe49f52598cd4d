"""Packages import in one direction: a module, or a package as a whole, never comes back to itself."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PACKAGES = ["preprocessing", "networks", "density", "scoring", "inspection", "deploy", "service", "verbs"]
"""Each may import those before it, never those behind it."""


def modules(package):
    """Map each module's name below the package to its file."""
    paths = {
        ".".join(path.relative_to(ROOT / package).with_suffix("").parts): path
        for path in sorted((ROOT / package).rglob("*.py"))
    }
    return {name.removesuffix(".__init__"): path for name, path in paths.items()}


def imported(path):
    """Every absolute module that a file names in an import, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def units(name):
    """Packages and loose modules of metricad that a module imports, but for its own."""
    found = (target.split(".") for target in imported(modules("metricad")[name]))
    named = {parts[1] for parts in found if parts[0] == "metricad" and len(parts) > 1}
    return named & {one.split(".")[0] for one in modules("metricad")} - {name.split(".")[0]}


def test_no_package_comes_back_to_itself():
    graph = {}
    for name in modules("metricad").keys() - {"__init__"}:
        graph.setdefault(name.split(".")[0], set()).update(units(name))
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"packages import each other in a circle: {error.args[1]}")
    assert set(PACKAGES) <= set(order)


@pytest.mark.parametrize("name", modules("metricad"))
def test_imports_point_upwards(name):
    package = name.split(".")[0]
    behind = PACKAGES[PACKAGES.index(package) + 1 :] if package in PACKAGES else []
    assert not units(name) & set(behind)
    for target in imported(modules("metricad")[name]):
        assert target.split(".")[0] not in ("data_prep", "scripts", "results", "tests"), f"{name}: {target}"


@pytest.mark.parametrize("name", modules("data_prep"))
def test_data_prep_needs_little_of_metricad(name):
    targets = (target for target in imported(modules("data_prep")[name]) if target.startswith("metricad"))
    needed = {".".join(target.split(".")[:2]) for target in targets}
    assert needed <= {"metricad", "metricad.cli.console", "metricad.errors"}
