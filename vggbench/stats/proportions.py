"""Statistics of counts: a share with its interval, and whether two ways of judging the same images differ.

Standard library only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from vggbench.stats.beta import binomial_at_most

CONFIDENCE = 0.95


def wilson_interval(hits: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the interval of a share, 0 to 1: all shares whose normal test would not reject what was counted.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927). It covers well
    for few trials and near 0 and 1, where the usual one does not (Brown, Cai and DasGupta, "Interval estimation for a
    binomial proportion", Statistical Science 16 (2001)). `ValueError` without trials, or for more hits than those.
    """
    if not 0 <= hits <= trials or trials == 0:
        raise ValueError(f"{hits} hits in {trials} trials")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, weight = hits / trials, z * z / trials
    middle = share + weight / 2
    half = z * math.sqrt(share * (1 - share) / trials + weight / (4 * trials))
    low, high = (middle - half) / (1 + weight), (middle + half) / (1 + weight)
    return (0.0 if hits == 0 else low), (1.0 if hits == trials else high)


@dataclass(frozen=True, slots=True)
class PairedChange:
    """How the same images were judged twice.

    Attributes:
        lost: images that were right and became wrong.
        won: images that were wrong and became right.
        images: all of them.
    """

    lost: int
    won: int
    images: int

    @property
    def points(self) -> float:
        """Change of the share that is right, in percentage points."""
        return 100 * (self.won - self.lost) / self.images

    @property
    def p_value(self) -> float:
        """How likely a change at least as uneven is, either way, where none of the two judges better.

        Exact: of the images judged differently each is then lost or won with even odds (Q. McNemar, "Note on the
        sampling error of the difference between correlated proportions or percentages", Psychometrika 12 (1947)).
        """
        changed = self.lost + self.won
        if changed == 0:
            return 1.0
        return min(1.0, 2 * binomial_at_most(min(self.lost, self.won), changed, 0.5))
