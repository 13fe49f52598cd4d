"""The paper's preset from the authors' own files to its table, on small copies in their layout."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import save, scratched, texture
from test_cifar100 import Original

from data_prep.building import prepare
from data_prep.cifar100.builder import Cifar100Gray
from data_prep.dagm2007.builder import Dagm2007
from data_prep.kylberg.builder import Kylberg
from metricad import grid, reproduction


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Two Kylberg textures, ten DAGM classes of eight good and four defective images, some of CIFAR-100."""
    manual, prepared = tmp_path_factory.mktemp("manual"), tmp_path_factory.mktemp("prepared")
    rng = np.random.default_rng(0)
    for name in ("rice1", "blanket1"):
        for number in (1, 2):
            save(manual / "kylberg" / name / f"{name}-a-p{number:03}.png", rng.uniform(-1, 1, (64, 64)))
    for number in range(1, 11):
        for split in ("Train", "Test"):
            make_split(manual / "dagm" / f"Class{number}" / split, rng)
    Original(data_dir=manual / "tfds").download_and_prepare()
    prepare(Kylberg, manual_dir=manual / "kylberg", data_dir=prepared)
    prepare(Dagm2007, manual_dir=manual / "dagm", data_dir=prepared, config="all")
    prepare(Cifar100Gray, manual_dir=manual / "tfds", data_dir=prepared)
    return prepared


def make_split(folder, rng, *, good=4, defects=2):
    """One split of a class in the layout of DAGM 2007."""
    lines = ["1"]
    mask = np.full((64, 64), -1.0)
    mask[20:26, 30:36] = 1
    for number in range(1, good + defects + 1):
        is_defect = number > good
        image = texture(rng)
        save(folder / f"{number:04}.png", scratched(image, 20, 30) if is_defect else image)
        if is_defect:
            save(folder / "Label" / f"{number:04}_label.png", mask)
        label = f"{number:04}_label.PNG" if is_defect else "0"
        lines.append(f"{number}\t{int(is_defect)}\t{number:04}.PNG\t0\t{label}\t")
    for path in list(folder.rglob("*.png")):
        path.rename(path.with_suffix(".PNG"))
    (folder / "Label" / "Labels.txt").write_text("\r\n".join(lines), encoding="utf-8", newline="")


def test_the_whole_preset_finds_its_data(prepared):
    cells = reproduction.plan(grid.PRESETS["paper"], data_dir=prepared)
    assert len(cells) == 12 + (12 + 6 + 1) * 10


def test_the_papers_table_stands_beside_ours(prepared, tmp_path):
    paper = grid.PRESETS["paper"]
    short = replace(paper.settings, rounds=1, epochs=1, triplets_per_round=64, batch_size=32, pyramid=(64,))
    small = replace(paper, settings=short, units=(16,), seeds=(0,))
    study, missing = reproduction.reproduce(small, tmp_path / "grid", data_dir=prepared)
    assert missing == []
    trained = [one for one in study.results if one.role == "trained" and one.method == "mean euclidean"]
    assert {(one.surface, one.is_known) for one in trained} == {
        (f"class{number}", number <= 6) for number in range(1, 11)
    }
    # Half of the good images in the prototype, all of the others and all defects in the test.
    for one in trained:
        assert (one.fit_normals, one.held_out_normals, one.test_normals, one.test_defects) == (4, 0, 4, 4)
    assert {tuple(one.trained_on) for one in study.networks} == {
        ("kylberg: 2 classes, 4 images", "dagm2007/all: 6 classes, 24 images"),
        (
            "kylberg: 2 classes, 4 images",
            "dagm2007/all: 6 classes, 24 images",
            "cifar100_gray: 3 classes, 9 images",
        ),
    }
    report = (tmp_path / "grid" / "report" / "report.md").read_text()
    (known,) = [line for line in report.splitlines() if line.startswith("| class3 |")][:1]
    ours = {one.network: one.auroc for one in trained if one.surface == "class3"}
    expected = ["class3", "4 / 4", f"{ours['h16-0']:.3f}", "0.72 ± 0.04", f"{ours['h16-0'] - 0.72:+.3f}"]
    cells = [cell.strip(" *⚠").replace("−", "-") for cell in known.split("|")[1:]]
    assert cells[:5] == expected
    assert "the paper prints 0.83" in report
