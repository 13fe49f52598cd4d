"""Damaged image files: what the script makes and what it says of them."""

import numpy as np
import pytest

from tests.helpers import load_script

fuzz = load_script("fuzz_images")


@pytest.mark.parametrize("damage", fuzz.DAMAGES)
def test_every_format_survives_every_damage(damage):
    rng = np.random.default_rng(0)
    for name, content in fuzz.seeds(rng).items():
        before = fuzz.decoded(content)
        damaged = fuzz.DAMAGES[damage](content, rng)
        assert damaged != content or damage in ("flip", "swap", "head", "sector")
        found = fuzz.decoded(damaged)
        assert found[0] in ("read", "refused"), (name, found)
        if damage in fuzz.HARMLESS and found[0] == "read":
            assert found == before, name


def test_verdicts_are_not_too_kind():
    before = fuzz.Outcome("read", "a")
    assert fuzz.judged("append", fuzz.Outcome("read", "a", 0.1, 5.0), before) == "read right"
    assert fuzz.judged("append", fuzz.Outcome("read", "b"), before) == "wrong"
    assert fuzz.judged("flip", fuzz.Outcome("read", "b"), before) == "read, not checked"
    assert fuzz.judged("flip", fuzz.Outcome("hung"), before) == "hung"
    assert fuzz.judged("flip", fuzz.Outcome("read", "a", 0.1, 2000.0), before) == "crashed"
