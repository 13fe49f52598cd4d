"""Which reduction suits a part: chosen with synthetic defects on held-out good images, without labels."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metricad import defects, metrics
from metricad.scoring.calibration import calibrate
from metricad.inspection.detector import TripletDetector
from metricad.errors import DataError
from metricad.inspection.inspector import Inspector
from metricad.scoring.maps import REDUCTIONS, image_score

BASE = "max"
"""The paper's reduction; another must be better by more than chance to take its place."""

LEVEL = 0.05
"""Largest chance to leave `BASE` where no other reduction is better."""

_RESAMPLES = 2000


@dataclass(frozen=True)
class Trial:
    """One good image and what was put onto it, scored under every reduction.

    Attributes
    ----------
    good : float64 (r,)
        Scores of the image as it is, in the order of `REDUCTIONS`.
    defective : float64 (d, r)
        Scores of its defective versions.
    kinds : sequence of str (d,)
        Which of `defects.KINDS` each of them has.
    """

    good: np.ndarray
    defective: np.ndarray
    kinds: Sequence[str]


@dataclass(frozen=True)
class Tuning:
    """What the reductions are worth on a part, and the one to use.

    Attributes
    ----------
    reduction : str
        The one chosen.
    aurocs : dict of str to float
        Of each reduction, over all defects.
    by_kind : dict of str to dict of str to float
        The same for each kind of defect, in the order of `defects.KINDS`; kinds that were not drawn are
        left out.
    counts : dict of str to int
        Defects of each of these kinds.
    gain : float
        The chosen one's AUROC above that of `BASE`; 0 where it is `BASE`.
    least_gain : float
        What the gain is at least, with a confidence of 1 − `LEVEL`; 0 where `BASE` was kept.
    good_scores : float64 (n,)
        Of the good images under the chosen reduction, for calibration.
    """

    reduction: str
    aurocs: dict[str, float]
    by_kind: dict[str, dict[str, float]]
    counts: dict[str, int]
    gain: float
    least_gain: float
    good_scores: np.ndarray


def tune(
    detector: TripletDetector, images: Iterable[np.ndarray], *, rng: np.random.Generator, each: int = 5
) -> Tuning:
    """Choose the reduction that tells synthetic defects from good surface best.

    Parameters
    ----------
    detector : TripletDetector
        Fitted; its own reduction plays no part.
    images : iterable of float32 (H, W) in [-1, 1]
        Good images that took no part in fitting; they are read once.
    rng : numpy.random.Generator
        Draws the defects and the resamples.
    each : int
        Defective versions of each image.

    Raises
    ------
    DataError
        There are fewer than two images, or none can show a defect.
    ValueError
        `each` is not 1 or more.
    """
    return choose([measure(detector, image, rng=rng, each=each) for image in images], rng=rng)


def measure(
    detector: TripletDetector, image: np.ndarray, *, rng: np.random.Generator, each: int = 5
) -> Trial:
    """Score a good image and defective versions of it under every reduction; parameters as in `tune`."""
    if each < 1:
        raise ValueError(f"each must be 1 or more, received {each}")
    scores, kinds = [], []
    inside = None if detector.region is None else detector.region.region(image)
    for _ in range(each):
        changed, mask, kind = defects.add_any(image, rng, inside=inside)
        if mask.any():
            scores.append(_scores(detector, changed))
            kinds.append(kind)
    return Trial(_scores(detector, image), np.array(scores).reshape(-1, len(REDUCTIONS)), kinds)


def choose(trials: Sequence[Trial], *, rng: np.random.Generator) -> Tuning:
    """Compare the reductions, and leave `BASE` only for one that is better by more than chance.

    The difference of two reductions' AUROCs is resampled by drawing images with replacement, each with all
    its defective versions, the same draws for both. A reduction may take the place of `BASE` if the lower
    end of its difference, at `LEVEL` shared out among the alternatives (Bonferroni), is above 0; of those
    that may, the one with the highest AUROC does.

    Parameters
    ----------
    trials : sequence of Trial
    rng : numpy.random.Generator
        Draws the resamples.

    Raises
    ------
    DataError
        There are fewer than two images, there is no defect, or a score is not finite.
    """
    if len(trials) < 2 or not any(trial.kinds for trial in trials):
        raise DataError(
            "tuning needs two good images or more, and surface that can show a defect; "
            f"received {len(trials)} good images with {sum(len(trial.kinds) for trial in trials)} defects"
        )
    good = np.array([trial.good for trial in trials])
    defective = np.concatenate([trial.defective for trial in trials])
    kinds = np.array([kind for trial in trials for kind in trial.kinds])
    owner = np.repeat(np.arange(len(trials)), [len(trial.kinds) for trial in trials])

    drawn = [kind for kind in defects.KINDS if kind in kinds]
    aurocs = _aurocs(good, defective)
    weights = rng.multinomial(len(good), np.full(len(good), 1 / len(good)), _RESAMPLES)
    resampled = {
        name: _resampled_auroc(good[:, k], defective[:, k], owner, weights)
        for k, name in enumerate(REDUCTIONS)
    }
    share = LEVEL / (len(REDUCTIONS) - 1)
    least = {name: float(np.quantile(resampled[name] - resampled[BASE], share)) for name in REDUCTIONS}
    better = [name for name in REDUCTIONS if least[name] > 0 and aurocs[name] > aurocs[BASE]]
    chosen = max(better, key=aurocs.get, default=BASE)
    return Tuning(
        reduction=chosen,
        aurocs=aurocs,
        by_kind={kind: _aurocs(good, defective[kinds == kind]) for kind in drawn},
        counts={kind: int(np.sum(kinds == kind)) for kind in drawn},
        gain=aurocs[chosen] - aurocs[BASE],
        least_gain=least[chosen],
        good_scores=good[:, list(REDUCTIONS).index(chosen)],
    )


def apply(inspector: Inspector, tuning: Tuning, **record: object) -> Inspector:
    """An inspector with the chosen reduction, its threshold set anew at the same false-alarm rate.

    The good images that the reduction was chosen with set the threshold. That they chose among so few
    reductions, by how well defects stand out, hardly shifts where their own scores lie.

    Parameters
    ----------
    inspector : Inspector
        Is left as it is.
    tuning : Tuning
    **record : object
        What else is to be kept of how it was tuned, such as a seed.

    Raises
    ------
    DataError
        There are too few good images for the rate.
    """
    detector = copy.copy(inspector.detector)  # the network and all that was learned are shared
    detector.reduction = tuning.reduction
    calibration = calibrate(tuning.good_scores, inspector.calibration.false_alarm_rate)
    made = {
        "good_images": len(tuning.good_scores),
        "defects": sum(tuning.counts.values()),
        **record,
    }
    return replace(
        inspector,
        detector=detector,
        calibration=calibration,
        fitted_on={**inspector.fitted_on, "tuned_on": made},
    )


def table(tuning: Tuning) -> list[list[str]]:
    """Rows of the AUROCs for a terminal: header first, a line for each kind of defect, all of them last."""

    def row(name: str, count: int, aurocs: dict[str, float]) -> list[str]:
        return [name, str(count), *(f"{aurocs[reduction]:.3f}" for reduction in REDUCTIONS)]

    body = [row(kind, tuning.counts[kind], aurocs) for kind, aurocs in tuning.by_kind.items()]
    return [["defect", "number", *REDUCTIONS], *body, row("all", sum(tuning.counts.values()), tuning.aurocs)]


def _scores(detector: TripletDetector, image: np.ndarray) -> np.ndarray:
    distance_map = detector.distance_map(image)
    return np.array([image_score(distance_map, reduction) for reduction in REDUCTIONS])


def _aurocs(good: np.ndarray, defective: np.ndarray) -> dict[str, float]:
    """AUROC of each reduction from scores (n, r) and (d, r)."""
    is_defect = np.arange(len(good) + len(defective)) >= len(good)
    return {
        name: metrics.auroc(is_defect, np.concatenate([good[:, k], defective[:, k]]))
        for k, name in enumerate(REDUCTIONS)
    }


def _resampled_auroc(
    good: np.ndarray, defective: np.ndarray, owner: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """AUROC (resamples,) where each image appears as often as `weights` (resamples, n) says, defects with it.

    Resamples without a single defect have none better than the other: 0.5.
    """
    above = (defective > good[:, None]) + 0.5 * (defective == good[:, None])
    pairs = np.stack([np.bincount(owner, row, len(good)) for row in above])  # (n, n): good image, owner
    versions = np.bincount(owner, minlength=len(good))
    wins = np.einsum("rn,rn->r", weights @ pairs, weights)
    total = len(good) * (weights @ versions)
    return np.divide(wins, total, out=np.full(len(weights), 0.5), where=total > 0)
