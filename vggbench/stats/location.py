"""Where a few measured numbers lie: quantiles, the Hodges-Lehmann estimate, the exact signed-rank interval.

Numpy and the standard library only.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Up to here the null distribution is computed exactly (12 ms, once); the normal limit beyond it is off by a few ranks
# of twenty thousand.
LARGEST_EXACT_COUNT = 300


def quantile(values: ArrayLike, probability: float) -> float:
    """Return a quantile with linear interpolation between order statistics (Hyndman and Fan's type 7).

    Raises `ValueError` for no values, for NaN or infinity, and for a probability outside [0, 1].
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"a probability is between 0 and 1, not {probability}")
    return float(np.quantile(checked_sample(values), probability))


def median(values: ArrayLike) -> float:
    """Return the median; raises `ValueError` for no values, NaN or infinity."""
    return quantile(values, 0.5)


def hodges_lehmann(values: ArrayLike) -> float:
    """Return the one-sample Hodges-Lehmann estimate: the median of all Walsh averages.

    Hodges and Lehmann, "Estimates of location based on rank tests", Annals of Mathematical Statistics 34 (1963).
    Raises `ValueError` for no values, NaN or infinity.
    """
    return float(np.median(walsh_averages(checked_sample(values))))


def signed_rank_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float] | None:
    """Return the distribution-free interval for the centre of symmetry, from the Wilcoxon signed-rank test.

    It holds every centre that the two-sided test does not reject: its ends are Walsh averages (Hollander and Wolfe,
    "Nonparametric Statistical Methods", section 3.4). Its coverage is at least `confidence` for any continuous
    symmetric distribution, exactly computed up to `LARGEST_EXACT_COUNT` values and by the normal limit beyond.
    None when no interval of these few values has the confidence: fewer than 6 for 95 %.
    Raises `ValueError` for no values, NaN or infinity, and for a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence is between 0 and 1, not {confidence}")
    sample = checked_sample(values)
    rejected = largest_rejected_rank_sum(sample.size, confidence)
    if rejected < 0:
        return None
    averages = np.sort(walsh_averages(sample))
    return float(averages[rejected]), float(averages[averages.size - 1 - rejected])


def checked_sample(values: ArrayLike) -> NDArray[np.float64]:
    """Return the values as a flat float64 array that is safe to compute with."""
    sample = np.asarray(values, dtype=np.float64).ravel()
    if sample.size == 0:
        raise ValueError("there are no values")
    if not np.isfinite(sample).all():
        raise ValueError("a value is NaN or infinite")
    return sample


def walsh_averages(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the n (n + 1) / 2 averages of all pairs along the last axis, each value with itself included."""
    rows, columns = np.triu_indices(samples.shape[-1])
    # Halved before the sum: the sum of two large values may overflow where their mean does not.
    averages: NDArray[np.float64] = samples[..., rows] / 2 + samples[..., columns] / 2
    return averages


@lru_cache(maxsize=128)
def largest_rejected_rank_sum(count: int, confidence: float) -> int:
    """Return the largest rank sum k with P(T <= k) <= (1 - confidence) / 2 under the null hypothesis; -1 for none."""
    tail = (1 - confidence) / 2
    if count > LARGEST_EXACT_COUNT:
        return _normal_rank_sum(count, tail)
    # A relative hair above: (1 - 0.9) / 2 is not exactly 0.05, and the probabilities are rounded too.
    allowed = tail * (1 + 1e-12)
    return int(np.searchsorted(np.cumsum(_rank_sum_probabilities(count)), allowed, side="right")) - 1


def _rank_sum_probabilities(count: int) -> NDArray[np.float64]:
    """Return P(T = k) for k = 0 ... n (n + 1) / 2, T the sum of the ranks 1 ... n that a fair coin picks.

    Dynamic programming over the ranks. Every term is positive, so the relative rounding error stays below n units.
    """
    probabilities = np.zeros(count * (count + 1) // 2 + 1)
    probabilities[0] = 1.0
    for rank in range(1, count + 1):
        probabilities[rank:] += probabilities[:-rank].copy()
        probabilities /= 2
    return probabilities


def _normal_rank_sum(count: int, tail: float) -> int:
    """Return the rank sum below which the normal limit leaves `tail`, with the correction for continuity."""
    mean = count * (count + 1) / 4
    deviation = math.sqrt(count * (count + 1) * (2 * count + 1) / 24)
    return math.floor(mean + NormalDist().inv_cdf(tail) * deviation - 0.5)  # half a step: ranks are whole numbers
