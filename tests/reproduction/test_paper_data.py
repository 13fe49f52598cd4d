"""The paper's preset finds its data in the authors' own files, on small copies in their layout."""

import numpy as np
import pytest

from tests.helpers import COLLECTING, save, scratched, texture

if not COLLECTING:
    from data_prep.building import prepare
    from data_prep.cifar100.builder import Cifar100Gray
    from data_prep.dagm2007.builder import Dagm2007
    from data_prep.kylberg.builder import Kylberg
    from metricad.reproduction import grid, runner
    from tests.data_prep.cifar100 import Original

pytestmark = pytest.mark.tf


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
    cells = runner.plan(grid.change(grid.PRESETS["paper"], normals=4), data_dir=prepared)
    assert len(cells) == 12 + (12 + 6 + 1) * 10
