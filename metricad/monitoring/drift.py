"""Detect drift: test whether new scores have the same distribution as those of the calibration."""

from statistics import NormalDist

import numpy as np

BETS = {
    "higher": ((0.5, 1.0), (1.0, 1.0), (2.0, 1.0)),
    "lower": ((-0.5, 1.0), (-1.0, 1.0), (-2.0, 1.0)),
    "wider": ((0.0, 2.0),),
    "narrower": ((0.0, 0.5),),
}
"""Bets by name: mean and standard deviation of the normal scores; without drift they are 0 and 1."""

DEFECTS = "mostly defects"
"""Name of the bet that more than half of all images are defects. Then few good images are left to rank."""

LEVEL = 0.001
"""Default level: of a thousand endless streams without drift, one is expected to raise an alarm."""

_NAMES = np.array([*(name for name, bets in BETS.items() for _ in bets), DEFECTS])
_SHIFT, _SPREAD = np.array([bet for bets in BETS.values() for bet in bets]).T
# Logarithm of the density of N(shift, spread²) divided by that of N(0, 1), as a polynomial in the normal
# score.
_CONSTANT = -np.log(_SPREAD) - _SHIFT**2 / (2 * _SPREAD**2)
_LINEAR = _SHIFT / _SPREAD**2
_SQUARE = 0.5 - 0.5 / _SPREAD**2
# Factor 3/2 for a defect, 1/2 for a good image: fair if half of all images are defects, a loss if fewer are.
_IF_DEFECT, _IF_NONE = np.log([1.5, 0.5])
_BINS = int(np.float16(np.inf).view(np.uint16))
"""Number of finite float16 values from 0 up; these are the bins."""

_SMALLEST = 2.0**-53


class DriftTest:
    """Conformal test martingale: tests whether new scores are exchangeable with those of the calibration.

    Each new score is ranked among the calibration scores and all earlier scores; ties are broken at random.
    Without drift, this rank is uniform and independent of the earlier ranks (Vovk, Nouretdinov and Gammerman,
    2003, "Testing exchangeability on-line"). Fair bets against this are a martingale. The probability that it
    ever reaches 1/level is at most the level (Ville, 1939). So the stream may be of any length and may be
    tested after each image. Ranks among the calibration scores alone would not work: this sample differs by
    chance from its distribution, and a long stream would detect that.

    Only good images are ranked, so that defects do not count as drift. The threshold is itself one of the
    calibration scores. Given the threshold, the calibration scores strictly below it are exchangeable with
    the stream's scores strictly below it. If drift leaves few scores below it, another bet detects this: that
    most images are defects.

    Any change that makes scores not exchangeable counts as drift: another batch of material, a machine that
    warms up, or more frequent defects that score below the threshold. The number of scores limits how small a
    drift can be found. For the first image these are the calibration scores only.

    The capital of 1 is divided among the bets and over time: after t images the share 1/√(t + 1) is still
    kept for bets that begin later. So late drift is found about as fast as drift at the start: the delay
    grows with the logarithm of t.

    Memory does not grow: scores are counted in bins of how far they lie below the threshold, rounded to
    float16, which is three digits. So scores may have any unit and sign. Binning keeps scores exchangeable.
    Ranks within a bin are drawn at random.

    Parameters
    ----------
    scores : float (n,)
        Scores of good images in the calibration.
    threshold : float
        Scores above it are defects.
    level : float in [0, 1)
        Largest probability of an alarm in a stream of any length without drift; 0 disables the test.
    seed : int
        Seed to break ties.

    Attributes
    ----------
    p_value : float in [0, 1]
        Smallest level at which the test would have raised an alarm so far; it never rises. Without drift, the
        probability that it ever falls to a value is at most that value.
    alarm : str or None
        How the scores have drifted since the first alarm: one of `BETS` or `DEFECTS`.

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
        self._capital = np.full(len(_NAMES), -np.inf)  # logarithms, because long drift would overflow

    def update(self, score: float) -> None:
        """Add the score of the next image of the stream."""
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
        """Return the rank in (0, 1) of a good score among all earlier ones, and add the score to them."""
        place = self._bin(score)
        below, equal = int(self._counts[:place].sum()), int(self._counts[place])
        rank = (below + self._rng.random() * (equal + 1)) / (self._ranked + 1)
        self._counts[place] += 1
        self._ranked += 1
        return min(max(rank, _SMALLEST), 1 - _SMALLEST)

    def _bin(self, score: float) -> int:
        # As an integer, the bit pattern of a positive float16 rises with its value.
        distance = np.float16(min(self.threshold - score, float(np.finfo(np.float16).max)))
        return _BINS - 1 - int(distance.view(np.uint16))
