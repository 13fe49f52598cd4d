"""One word for one thing: words that docs/architecture.md replaced do not come back."""

import ast
import re

import pytest

from tests.helpers import ROOT

NOWHERE = re.compile(r"\b(evidence|settles?|gathers|lattice|arrivals)\b", re.IGNORECASE)
"""Words of no field."""

NO_NAME = {"looks", "silence", "tone", "clock", "kinds", "limits", "chapters", "overview"}
"""Not the name of a module, class or function."""

ALLOWED = {"tests/test_words.py"}
"""Files that have to name them."""


def texts():
    for folder in ("metricad", "data_prep", "tests", "results"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".md", ".js", ".css", ".html", ".jinja"):
                yield path
    yield ROOT / "README.md"


def test_replaced_words_do_not_come_back():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in texts()
        if str(path.relative_to(ROOT)) not in ALLOWED
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if NOWHERE.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("package", ["metricad", "data_prep"])
def test_names_say_what_they_are(package):
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        names = [path.stem]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.append(node.name)
        found += [f"{path.relative_to(ROOT)}: {name}" for name in names if name.lower().strip("_") in NO_NAME]
    assert found == []
