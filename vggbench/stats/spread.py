"""How much measured numbers scatter, within a launch and between launches, and how many of them count. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vggbench.stats.location import checked_sample, median

_NORMAL = 1.4826  # 1 / Phi^-1(3/4): makes the median absolute deviation of a normal sample its standard deviation


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Robust relative standard deviations: 0.01 is one percent of the median.

    Attributes:
        within: of the samples of one launch about their own median; the median over launches.
        between: of the launches' medians about theirs; None for a single launch.
    """

    within: float
    between: float | None


def spread(launches: Sequence[ArrayLike]) -> Spread:
    """Return how much the samples scatter within a launch, and the launches' medians between launches.

    `between` is of the medians as they were seen: their own sampling error is part of it.
    Raises `ValueError` for no launches, and for what `relative_spread` refuses.
    """
    samples = [checked_sample(launch) for launch in launches]
    if not samples:
        raise ValueError("there are no launches")
    medians = [median(sample) for sample in samples]
    return Spread(
        within=median([relative_spread(sample) for sample in samples]),
        between=relative_spread(medians) if len(medians) > 1 else None,
    )


def relative_spread(values: ArrayLike) -> float:
    """Return the median absolute deviation, scaled to a normal sample's standard deviation, over the median.

    Rousseeuw and Croux, "Alternatives to the median absolute deviation", JASA 88 (1993), equation 1.1.
    Raises `ValueError` for no values, NaN, infinity, and a median that is not positive: these are durations or rates.
    """
    sample = checked_sample(values)
    centre = median(sample)
    if centre <= 0:
        raise ValueError(f"a spread relative to {centre} is not defined")
    return _NORMAL * median(np.abs(sample - centre)) / centre


def effective_sample_size(series: ArrayLike) -> float:
    """Return how many independent samples would show the mean of a series in time order as well: from 1 to its length.

    n / (1 + 2 (rho_1 + rho_2 + ...)) with the initial positive sequence estimate of the sum: it ends before the first
    pair rho_2k + rho_2k+1 that is not positive (Geyer, "Practical Markov chain Monte Carlo", Statistical Science 7
    (1992), section 3.3). A series of one value, or of equal ones, counts in full: nothing in it depends on anything.
    Raises `ValueError` for no values, NaN or infinity.
    """
    sample = checked_sample(series)
    if sample.min() == sample.max():
        return float(sample.size)
    correlations = _autocorrelations(sample - sample.mean())
    pairs = correlations[: correlations.size // 2 * 2].reshape(-1, 2).sum(axis=1)
    ended = np.flatnonzero(pairs <= 0)
    kept = pairs[: ended[0]] if ended.size else pairs
    # The pairs start with rho_0 + rho_1. Negative correlation may make it smaller than 1; no series counts more.
    return float(sample.size / max(2 * kept.sum() - 1, 1.0))


def _autocorrelations(deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rho_0 ... rho_n-1 by the fast Fourier transform, padded so that the ends do not meet."""
    count = deviations.size
    power = np.abs(np.fft.rfft(deviations / np.abs(deviations).max(), 2 * count)) ** 2
    covariances: NDArray[np.float64] = np.fft.irfft(power, 2 * count)[:count]
    correlations: NDArray[np.float64] = covariances / covariances[0]
    return correlations
