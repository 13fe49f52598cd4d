"""A module imports what stands above it in this list, never below; see the README's page on layout."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ORDER = [
    "errors", "versions", "files", "silence", "clock", "sampling", "images", "foreground", "region",
    "calibration", "maps", "tiles", "inspection", "drift", "arrivals", "journal", "watch", "description",
    "runtimes", "exported", "patches", "triplets", "datasets", "settings", "loss", "network",
    "hypercolumn", "lines", "borders", "evidence", "neighbourhood", "architectures", "pretrained", "runs",
    "training", "shapes", "defects", "textures", "episodes", "episodic", "covariance", "prototype",
    "positional", "tone", "kinds", "head", "mahalanobis", "detector", "adaptation", "inspector", "metrics",
    "tuning", "detectability", "limits", "bundle", "graph", "export", "reduced", "opening", "pixels",
    "results", "examples", "evaluation", "backbones", "fitting", "registration", "methods.adapted",
    "methods.variation", "methods.autoencoder", "methods.cae_kde", "methods.cpcae_knn",
    "methods.deep_feature_knn", "methods.denoising", "methods.f_anogan_networks", "methods.f_anogan",
    "methods.nearest_image", "methods.patch_bank", "methods.patch_gaussian", "methods", "comparison",
    "document", "markdown", "page", "paper", "overview", "tables", "figures", "embeddings", "chapters",
    "report", "datasheet", "service.uploads", "service.gate", "service.answers", "service.meters",
    "service.envelope", "service.connections", "service.intake", "service.judging", "service.app",
    "service", "console", "workers", "grid", "reproduction", "display", "demonstration", "options",
    "verbs.exporting", "verbs.watching", "verbs.serving", "verbs.parts", "verbs.studies", "verbs", "cli",
    "__main__",
]  # fmt: skip


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
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            if not all(name.removeprefix("metricad.") in ORDER for name in names):
                yield node.module  # else only the package that the modules are in
            yield from names


def test_every_module_has_its_place():
    assert sorted(ORDER) == sorted(modules("metricad").keys() - {"__init__"})


@pytest.mark.parametrize("name", modules("metricad"))
def test_imports_point_upwards(name):
    below = ORDER[ORDER.index(name) :] if name in ORDER else []
    for target in imported(modules("metricad")[name]):
        assert target.split(".")[0] not in ("data_prep", "scripts", "results", "tests"), f"{name}: {target}"
        inside = target.removeprefix("metricad.")
        assert not (target.startswith("metricad.") and inside in below), f"{name} imports {inside}"


@pytest.mark.parametrize("name", modules("data_prep"))
def test_data_prep_needs_little_of_metricad(name):
    targets = (target for target in imported(modules("data_prep")[name]) if target.startswith("metricad"))
    needed = {".".join(target.split(".")[:2]) for target in targets}
    assert needed <= {"metricad", "metricad.console", "metricad.errors"}
