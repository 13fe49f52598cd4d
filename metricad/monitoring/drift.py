"""Drift: whether a stream of scores still comes from where the calibration's came from, at a stated level."""

from statistics import NormalDist

import numpy as np

BETS = {
    "higher": ((0.5, 1.0), (1.0, 1.0), (2.0, 1.0)),
    "lower": ((-0.5, 1.0), (-1.0, 1.0), (-2.0, 1.0)),
    "wider": ((0.0, 2.0),),
    "narrower": ((0.0, 0.5),),
}
"""What is bet on, by name: normal scores of this mean and standard deviation, where 0 and 1 are no drift."""

DEFECTS = "mostly defects"
"""The name of the bet that more than half of all images are defects: few good ones are left to rank."""

LEVEL = 0.001
"""Default level: of a thousand streams that never drift, watched for ever, one is expected to alarm."""

_NAMES = np.array([*(name for name, bets in BETS.items() for _ in bets), DEFECTS])
_SHIFT, _SPREAD = np.array([bet for bets in BETS.values() for bet in bets]).T
# Log density of N(shift, spread²) over that of N(0, 1), as a polynomial in the normal score.
_CONSTANT = -np.log(_SPREAD) - _SHIFT**2 / (2 * _SPREAD**2)
_LINEAR = _SHIFT / _SPREAD**2
_SQUARE = 0.5 - 0.5 / _SPREAD**2
# The factor 3/2 for a defect, 1/2 for none: fair where half are defects, and a loss where they are fewer.
_IF_DEFECT, _IF_NONE = np.log([1.5, 0.5])
_BINS = 4096
_SMALLEST = 2.0**-53


class DriftTest:
    """A conformal test martingale: whether new scores are exchangeable with the calibration's.

    Each new score's rank among the calibration's and all that came before, ties broken at random, is uniform
    and independent of the ranks before it as long as nothing drifts (Vovk, Nouretdinov and Gammerman, 2003,
    "Testing exchangeability on-line"). Bets against that, at fair odds, are a martingale, and the chance that
    it ever reaches 1/level is at most the level (Ville, 1939): the stream may be watched for ever, and looked
    at after each image. To rank against the calibration alone would not do: its sample differs from where it
    came from, and a long stream would find that out.

    Only good images are ranked, so that defects are no drift. Given the threshold, which is itself one of the
    calibration's scores, those strictly below it are exchangeable with the stream's strictly below it. A
    drift that leaves few below it is seen by another bet, that most images are defects.

    Whatever makes scores not exchangeable counts as drift: another batch of material, a machine that warms
    up, defects that score below the threshold and become more frequent. How small a drift can be found is set
    by how many scores there are to compare with: from the first image on, those of the calibration alone.

    The capital of 1 is divided among the bets, and along the stream: after t images the share 1/√(t + 1) is
    still held back for bets that begin later. A drift that comes late is found about as fast as one that is
    there at the start: the wait grows with the logarithm of t.

    Memory does not grow: scores are counted in equal bins from 0 to the threshold, which leaves exchangeable
    what was so, and ranks within a bin are drawn at random.

    Parameters
    ----------
    scores : float (n,)
        The calibration's scores of good images, distances from 0 up.
    threshold : float
        Above it an image is a defect.
    level : float in [0, 1)
        Largest probability of an alarm in a stream that does not drift, however long; 0 for none at all.
    seed : int
        Breaks ties.

    Attributes
    ----------
    p_value : float in [0, 1]
        Smallest level that would have alarmed so far; never rises. Without drift, the chance that it ever
        falls to a value is at most that value.
    alarm : str or None
        How the scores have drifted, one of `BETS` or `DEFECTS`, from the first alarm on.

    Raises
    ------
    ValueError
        The level is out of range.
    """

    def __init__(self, scores: np.ndarray, threshold: float, *, level: float = LEVEL, seed: int = 0) -> None:
        if not 0 <= level < 1:
            raise ValueError(f"drift level must lie in [0, 1), received {level}")
        self.threshold = threshold
        self.level = level
        self.p_value = 1.0
        self.alarm: str | None = None
        self._rng = np.random.default_rng(seed)
        below = np.array([self._bin(score) for score in scores if score < threshold], int)
        self._counts = np.bincount(below, minlength=_BINS)
        self._ranked = len(below)
        self._seen = 0
        self._capital = np.full(len(_NAMES), -np.inf)  # logarithms: a lasting drift would overflow

    def update(self, score: float) -> None:
        """Take in the score of the next image of the stream."""
        kept, left = (self._seen + 1) ** -0.5, (self._seen + 2) ** -0.5
        self._seen += 1
        self._capital = np.logaddexp(self._capital, np.log((kept - left) / len(_NAMES)))
        if score > self.threshold:
            self._capital[-1] += _IF_DEFECT
        else:
            self._capital[-1] += _IF_NONE
            if score < self.threshold:
                normal = NormalDist().inv_cdf(self._rank(score))
                self._capital[:-1] += _CONSTANT + normal * (_LINEAR + normal * _SQUARE)
        total = np.logaddexp(np.logaddexp.reduce(self._capital), np.log(left))
        self.p_value = min(self.p_value, float(np.exp(-total)))
        if self.alarm is None and self.p_value < self.level:
            self.alarm = str(_NAMES[np.argmax(self._capital)])

    def _rank(self, score: float) -> float:
        """The rank in (0, 1) of a good score among all before it, which it joins."""
        place = self._bin(score)
        below, equal = int(self._counts[:place].sum()), int(self._counts[place])
        rank = (below + self._rng.random() * (equal + 1)) / (self._ranked + 1)
        self._counts[place] += 1
        self._ranked += 1
        return min(max(rank, _SMALLEST), 1 - _SMALLEST)

    def _bin(self, score: float) -> int:
        # A quotient just below 1 may be rounded up to it.
        return min(max(int(score / self.threshold * _BINS), 0), _BINS - 1)
