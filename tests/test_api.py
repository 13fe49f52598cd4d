"""The library's front door: what README imports is there, and opens without TensorFlow."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import metricad

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.mark.parametrize("name", metricad.__all__)
def test_every_name_leads_somewhere(name):
    assert callable(getattr(metricad, name))
    assert name in dir(metricad)


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
