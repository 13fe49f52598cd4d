"""Choose the image score of a part with synthetic defects on held-out good images; no labels are needed."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from metricad import metrics
from metricad.data.channels import to_luminance
from metricad.errors import DataError
from metricad.inspection import min_defect
from metricad.inspection.detector import PartDetector
from metricad.inspection.inspector import Inspector, for_each
from metricad.scoring.calibration import calibrate, check_total
from metricad.scoring.score import top_mean
from metricad.scoring.score_names import SCORES
from metricad.scoring.standardize import fused
from metricad.synthetic import defects

ALL = "all"
"""All kinds of sources together."""

LEVEL = 0.05
"""Significance level: largest chance of replacing the inspector's score although no other is better."""

_RESAMPLES = 2000

Choice = tuple[str, str]
"""Name of a score, one of `score_names.SCORES`, and a kind of source or `ALL`."""


@dataclass(frozen=True)
class Trial:
    """Values of one good image and its defective versions under every choice.

    Attributes
    ----------
    good : float64 (c,)
        Averages of the largest values of the good image's map, in the order of `choices`.
    defective : float64 (d, c)
        The same for the defective versions.
    kinds : sequence of str (d,)
        Kind of each defect, from `defects.KINDS`.
    """

    good: np.ndarray
    defective: np.ndarray
    kinds: Sequence[str]


@dataclass(frozen=True)
class Tuning:
    """Result of tuning: how well each choice separates defects from good images, and the best choice.

    Attributes
    ----------
    base, choice : Choice
        The inspector's own choice, and the best one.
    aurocs : dict of Choice to float
        AUROC of each choice over all defects.
    by_kind : dict of str to dict of Choice to float
        AUROC of each choice for each kind of defect, in the order of `defects.KINDS`; without kinds that were
        not drawn.
    counts : dict of str to int
        Number of defects of each kind.
    gain : float
        AUROC of the chosen one minus that of the base; 0 if the base is chosen.
    least_gain : float
        Lower confidence bound of the gain, at confidence 1 − `LEVEL`; 0 if the base is chosen.
    good : float64 (n,)
        Averages of the largest values of the good images' maps under the choice.
    """

    base: Choice
    choice: Choice
    aurocs: dict[Choice, float]
    by_kind: dict[str, dict[Choice, float]]
    counts: dict[str, int]
    gain: float
    least_gain: float
    good: np.ndarray


def choices(detector: PartDetector) -> list[Choice]:
    """List all choices of a detector, its own first: each score with all sources or one kind of source."""
    kinds = list(dict.fromkeys(source.kind for source in detector.features.sources))
    groups = [ALL, *kinds] if len(kinds) > 1 else [ALL]
    own = (detector.score_name, ALL)
    return [own, *((score, group) for group in groups for score in SCORES if (score, group) != own)]


def tune(
    detector: PartDetector, images: Iterable[np.ndarray], *, rng: np.random.Generator, each: int = 5
) -> Tuning:
    """Choose the score that best separates synthetic defects from good surface.

    Parameters
    ----------
    detector : PartDetector
        A fitted detector.
    images : iterable of float32 (H, W) or (H, W, 3) in [-1, 1]
        Good images that were not used for fitting; each is read once.
    rng : numpy.random.Generator
        Draws the defects and the bootstrap resamples.
    each : int
        Number of defective versions of each image.

    Raises
    ------
    DataError
        There are fewer than two images, or no defect could be drawn on any of them.
    ValueError
        `each` is below 1.
    """
    trials = [measure(detector, image, rng=rng, each=each) for image in images]
    return choose(trials, choices(detector), rng=rng)


def measure(detector: PartDetector, image: np.ndarray, *, rng: np.random.Generator, each: int = 5) -> Trial:
    """Compute the values of a good image and its defective versions under every choice; see `tune`."""
    if each < 1:
        raise ValueError(f"each must be 1 or more, received {each}")
    found, kinds = [], []
    inside = None if detector.region is None else detector.region.region(to_luminance(image))
    for _ in range(each):
        changed, mask, kind = defects.add_any(image, rng, inside=inside)
        if mask.any():
            found.append(_values(detector, changed))
            kinds.append(kind)
    return Trial(_values(detector, image), np.array(found).reshape(len(kinds), -1), kinds)


def choose(trials: Sequence[Trial], tried: Sequence[Choice], *, rng: np.random.Generator) -> Tuning:
    """Compare all choices. Replace the first only by one that is significantly better.

    The difference of two AUROCs is bootstrapped: images are drawn with replacement, each with all its
    defective versions, the same draws for both choices. A choice can replace the first if the lower
    confidence bound of the difference is above 0. The level of the bound is `LEVEL` divided by the number of
    alternatives (Bonferroni). Of these, the choice with the highest AUROC is taken.

    Parameters
    ----------
    trials : sequence of Trial
    tried : sequence of Choice
        In the order of the trials' values; the inspector's own choice first.
    rng : numpy.random.Generator
        Draws the bootstrap resamples.

    Raises
    ------
    DataError
        There are fewer than two images, no defects, or a score is not finite.
    """
    if len(trials) < 2 or not any(trial.kinds for trial in trials):
        raise DataError(
            "tuning needs at least two good images and one visible synthetic defect; received "
            f"{len(trials)} good images with {sum(len(trial.kinds) for trial in trials)} defects"
        )
    good = np.array([trial.good for trial in trials])
    defective = np.concatenate([trial.defective for trial in trials if trial.kinds])
    kinds = np.array([kind for trial in trials for kind in trial.kinds])
    owner = np.repeat(np.arange(len(trials)), [len(trial.kinds) for trial in trials])

    base = tried[0]
    aurocs = _aurocs(tried, good, defective)
    weights = rng.multinomial(len(good), np.full(len(good), 1 / len(good)), _RESAMPLES)
    resampled = [_resampled_auroc(good[:, k], defective[:, k], owner, weights) for k in range(len(tried))]
    share = LEVEL / max(len(tried) - 1, 1)
    least = {one: float(np.quantile(resampled[k] - resampled[0], share)) for k, one in enumerate(tried)}
    better = [one for one in tried if least[one] > 0 and aurocs[one] > aurocs[base]]
    chosen = max(better, key=aurocs.__getitem__, default=base)
    return Tuning(
        base=base,
        choice=chosen,
        aurocs=aurocs,
        by_kind={
            kind: _aurocs(tried, good, defective[kinds == kind]) for kind in defects.KINDS if kind in kinds
        },
        counts={kind: int(np.sum(kinds == kind)) for kind in defects.KINDS if kind in kinds},
        gain=aurocs[chosen] - aurocs[base],
        least_gain=least[chosen],
        good=good[:, tried.index(chosen)],
    )


def tune_inspector(
    inspector: Inspector[PartDetector],
    paths: Sequence[str | os.PathLike[str]],
    *,
    defects_each: int = 5,
    seed: int = 0,
    on_image: Callable[[], object] = lambda: None,
) -> tuple[Inspector[PartDetector], Tuning]:
    """Choose the image score of a part with synthetic defects, then calibrate the threshold again.

    Parameters
    ----------
    inspector : Inspector
        Not changed; must not be an export.
    paths : sequence of path
        Images of good parts that were not used for fitting.
    defects_each : int
        Number of synthetic defects on each image.
    seed : int
        Seed of the defects.
    on_image : function, optional
        Called after each image, for a progress bar.

    Returns
    -------
    tuned : Inspector
    tuning : Tuning
        AUROCs of all choices.

    Raises
    ------
    DataError
        An image cannot be read, or there are fewer than `calibration.FEWEST`.
    InspectorError
        The inspector has no threshold.
    """
    check_total(len(paths))
    inspector.check_threshold()
    rng = np.random.default_rng(seed)
    detector = inspector.detector
    trials = for_each(
        paths,
        lambda image: measure(detector, image, rng=rng, each=defects_each),
        read=inspector.read,
        on_image=on_image,
    )
    found = choose(list(trials), choices(detector), rng=rng)
    return min_defect.again(apply(inspector, found, seed=seed), paths), found


def apply(inspector: Inspector[PartDetector], tuning: Tuning, **record: object) -> Inspector[PartDetector]:
    """Return an inspector with the chosen score, calibrated again at the rate that was asked for.

    It reports defects of all sizes, until `min_defect.again` lets small ones through.

    The threshold is set with the same good images that were used to choose the score. So its rate is only
    expected. The choice hardly shifts their scores: it is among few, by how well defects are separated.

    Parameters
    ----------
    inspector : Inspector
        Not changed.
    tuning : Tuning
    **record : object
        More facts to record about tuning, such as a seed.
    """
    score, group = tuning.choice
    given = inspector.detector
    kinds = {source.kind for source in given.features.sources} if group == ALL else {group}
    center, spread = float(np.mean(tuning.good)), float(max(np.std(tuning.good), np.finfo(np.float32).eps))
    detector = given.with_score(score, kinds, center=center, spread=spread)
    scores = (tuning.good - center) / spread if given.standardize is not None else tuning.good
    made = {
        "good_images": len(tuning.good),
        "defects": sum(tuning.counts.values()),
        "score": score,
        "sources": group,
        **record,
    }
    return inspector.changed(
        detector=detector,
        calibration=calibrate(scores, inspector.calibrated.asked, is_held_out=False),
        fitted_on={**inspector.fitted_on, "tuned_on": made},
    )


def table(tuning: Tuning) -> list[list[str]]:
    """Return the AUROCs as rows for a terminal: header, numbers of defects, then one row for each choice."""
    header = ["score", "sources", "all", *tuning.counts]
    numbers = ["defects", "", str(sum(tuning.counts.values())), *map(str, tuning.counts.values())]
    body = [
        [*choice, f"{auroc:.3f}", *(f"{aurocs[choice]:.3f}" for aurocs in tuning.by_kind.values())]
        for choice, auroc in tuning.aurocs.items()
    ]
    return [header, numbers, *body]


def _values(detector: PartDetector, image: np.ndarray) -> np.ndarray:
    """Compute the average of the largest map values of an image under each of `choices`."""
    maps, inside = detector.maps_by_kind(image)
    maps[ALL] = fused(maps)
    return np.array([top_mean(maps[group], SCORES[score], inside) for score, group in choices(detector)])


def _aurocs(tried: Sequence[Choice], good: np.ndarray, defective: np.ndarray) -> dict[Choice, float]:
    """Compute the AUROC of each choice from values (n, c) and (d, c)."""
    is_defect = np.arange(len(good) + len(defective)) >= len(good)
    return {
        one: metrics.auroc(is_defect, np.concatenate([good[:, k], defective[:, k]]))
        for k, one in enumerate(tried)
    }


def _resampled_auroc(
    good: np.ndarray, defective: np.ndarray, owner: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Compute the AUROC of each resample: (resamples,). `weights` (resamples, n) counts each image's draws.

    Defects are drawn with their image. A resample without defects gets 0.5.
    """
    above = (defective > good[:, None]) + 0.5 * (defective == good[:, None])
    pairs = np.stack([np.bincount(owner, row, len(good)) for row in above])  # (n, n): good image, owner
    versions = np.bincount(owner, minlength=len(good))
    wins = np.einsum("rn,rn->r", weights @ pairs, weights)
    total = len(good) * (weights @ versions)
    return np.divide(wins, total, out=np.full(len(weights), 0.5), where=total > 0)
