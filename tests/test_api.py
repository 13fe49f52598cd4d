"""The library's front door: what README imports is there, and opens without TensorFlow."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import metricad

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.mark.tf
@pytest.mark.parametrize("name", sorted(set(metricad.__all__) - {"__version__"}))
def test_every_name_leads_somewhere(name):
    assert callable(getattr(metricad, name))
    assert name in dir(metricad)


def test_the_version_is_the_installed_one():
    assert metricad.__version__ == importlib.metadata.version("metricad")


def test_type_checkers_see_the_same_names():
    """What is imported for them alone is what is looked up when it is used."""
    source = ast.parse(Path(metricad.__file__).read_text(encoding="utf-8"))
    (checked,) = [node for node in source.body if isinstance(node, ast.If)]
    seen = {
        alias.asname: (node.module.removeprefix("metricad."), alias.name)
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    used = {
        name: where if isinstance(where, tuple) else (where, name)
        for name, where in metricad._EXPORTS.items()
    }
    assert seen == used
    assert set(metricad.__all__) == {"__version__", *used}


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = metricad.nonsense


def test_import_does_without_tensorflow():
    code = "import metricad, sys; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_readme_uses_names_that_exist():
    used = set(re.findall(r"metricad\.(\w+)\(", README)) | set(re.findall(r"`metricad\.(\w+)`", README))
    assert used
    assert used <= set(metricad.__all__)
