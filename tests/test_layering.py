"""Packages import in one direction, and what docs/architecture.md says of them is true."""

import ast
import functools
import re
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.helpers import ROOT


@functools.cache
def rooms():
    """Map each package to those that docs/architecture.md lets it import, in the order of its table."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", text, flags=re.MULTILINE)
    return {name: set() if allowed == "–" else set(allowed.split(", ")) for name, allowed in table}


ORDER = list(rooms())


def imported(path):
    """Name every module that a file imports, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "metricad":
                yield from (f"metricad.{alias.name}" for alias in node.names)
            else:
                yield node.module


def files(package):
    return sorted((ROOT / package).rglob("*.py"))


@functools.cache
def needed():
    """Map each package of metricad to those that it imports."""
    found = {name: set() for name in ORDER}
    for path in files("metricad"):
        name = path.relative_to(ROOT / "metricad").with_suffix("").parts[0]
        if name in ("__init__", "__main__"):
            continue
        for target in imported(path):
            parts = target.split(".")
            if parts[0] == "metricad" and len(parts) > 1:
                found.setdefault(name, set()).add(parts[1])
    return {name: targets - {name} for name, targets in found.items()}


def test_all_packages_have_their_place():
    inside = {path.name for path in (ROOT / "metricad").iterdir() if (path / "__init__.py").exists()}
    loose = {path.stem for path in (ROOT / "metricad").glob("*.py")} - {"__init__", "__main__"}
    assert inside | loose == set(ORDER)
    assert loose == {"errors", "files", "versions"}


def test_no_package_comes_back_to_itself():
    try:
        TopologicalSorter(needed()).prepare()
    except CycleError as error:
        pytest.fail(f"packages import each other in a circle: {error.args[1]}")


@pytest.mark.parametrize("name", ORDER)
def test_a_package_imports_what_the_table_says(name):
    assert needed()[name] == rooms()[name]
    assert needed()[name] <= set(ORDER[: ORDER.index(name)])


@pytest.mark.parametrize("package", ["metricad", "data_prep"])
def test_programs_do_not_import_scripts_or_tests(package):
    others = {"scripts", "results", "tests"} | ({"data_prep"} if package == "metricad" else set())
    for path in files(package):
        assert {target.split(".")[0] for target in imported(path)} & others == set(), path


def test_data_prep_needs_little_of_metricad():
    targets = {target for path in files("data_prep") for target in imported(path)}
    found = {".".join(target.split(".")[:2]) for target in targets if target.startswith("metricad")}
    assert found <= {"metricad.cli", "metricad.deploy", "metricad.errors", "metricad.files"}
