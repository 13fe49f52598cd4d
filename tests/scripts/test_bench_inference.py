"""The benchmark of inference: what it counts and writes, not how long anything takes."""

import sys
from pathlib import Path

import pytest

from metricad.reporting import markdown
from tests.helpers import COLLECTING, load_script

if not COLLECTING:
    from metricad.networks import residual

pytestmark = pytest.mark.tf

if not COLLECTING:
    for runtime in ("tf2onnx", "onnxruntime", "openvino", "ai_edge_litert"):
        pytest.importorskip(runtime)
    script = load_script("bench_inference")


def test_multiply_adds_of_the_papers_network_are_those_counted_by_hand():
    stem = 506**2 * 7 * 7 * 16  # 512 less 6, then a pool of 2
    blocks = sum(side**2 * (5 * 5 + 1) * 16 * 16 for side in (249, 245, 241))
    features = 241**2 * 16 * 16
    assert script.multiply_adds(residual.build(16), 512) == stem + blocks + features
    assert stem + blocks + features == pytest.approx(1.4e9, rel=0.02)


def test_the_page_says_whether_what_is_aimed_at_is_reached():
    taken = {"bundle": 40.0, "onnx": 25.0, "openvino": 20.0, "litert": 50.0}
    speeds = {
        threads: {
            "peak": 100.0 * threads,
            "multiply_adds": 700_000_000,
            "rows": [{"network": script.NETWORK, "batch": 1, "milliseconds": taken}],
            "profile": [("Convolution stem", "jit", 3.0), ("Add", "jit", 1.0), ("Reorder", "jit", 0.001)],
        }
        for threads in (1, 2)
    }
    starts = [
        {"network": "fast", "format": format, "seconds": 0.5 + k, "mebibytes": 100.0}
        for k, format in enumerate(script.RUNTIMES)
    ]
    way = {"network": "fast", "format": "onnx", "workers": 2, "loss": 0.125, "over_sum": 0.8}
    line = {
        "files": 500,
        "threads": 2,
        "bytes": 204_800,
        "read": 5.0,
        "decode": 4.0,
        "decode_parallel": 2.0,
        "ways": [{**way, "seconds": [10.0, 1.0, 8.75]}],
    }
    document = script.build(
        script.FULL, {"processor": "made"}, speeds, starts, line, command="python x --rounds 5"
    )
    text = markdown.render(document)
    assert "Made by: python x --rounds 5" in text
    assert (
        "| the paper's network alone | 1 | 1 | 40.0 (25.0) | 25.0 (40.0) | **20.0 (50.0)** | 50.0 (20.0) |"
        in text
    )
    assert "| 1 | 1 | 100 | 35 (35%) | 56 (56%) | 70 (70%) | 28 (28%) |" in text
    assert "The best runtime reaches 70%; target: 65% or more" in text
    assert "| Convolution stem | jit | 3.00 | 75% |" in text
    assert "Reorder" not in text
    assert "At most ONNX Runtime 1.50 s, OpenVINO 2.50 s; target: at most 1.5 s" in text
    assert "| fast, mixture | ONNX Runtime | 2 | 10.00 | 1.00 | 8.75 | 12% | 0.80 |" in text
    assert "| processor | made |" in text


@pytest.mark.slow
def test_a_quick_run_measures_everything(tmp_path, monkeypatch):
    def here(_, name, folder, *numbers):
        """Not in a process of its own: none starts TensorFlow anew."""
        return script.TASKS[name](script.QUICK, Path(folder), *numbers)

    monkeypatch.setattr(script, "_task", here)
    monkeypatch.setattr(sys, "argv", ["bench_inference.py", "--quick", "--out", str(tmp_path)])
    script.main()
    text = (tmp_path / "inference.md").read_text(encoding="utf-8")
    for title in ("Share of the machine's peak", "Reading a PNG file", "Start-up and memory", "End to end"):
        assert f"## {title}" in text
    assert text.count(script.TITLES[script.NETWORK]) >= len(script.QUICK.batches)
    assert str(tmp_path) not in text
