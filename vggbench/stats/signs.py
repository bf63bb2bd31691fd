"""The statistics behind the signs that launches are not alike, over whole batches of runs at once, and their nulls.

Everything is computed on logarithms of durations, along the last axes: `benchmarks/calibration.py` calls these on
thousands of simulated runs, `launches.py` on one. Numpy only.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PIECES = 4  # of a block; more tell better how samples scatter, and are less like independent of one another
# Below a thousandth of the latency nothing is told apart: no decision hangs on it, and clocks tick and round.
RESOLUTION = 1e-3
_LARGEST_CORRELATION = 0.99  # at 1 nothing within a block would say anything of what is between blocks
_MOST_PERMUTED = 8  # 40,320 orders in 20 ms; one more launch takes ten times that
_DRAWS = 20_000  # the drawn share beyond a 2 % threshold has a standard error of 0.1 %
_MOST_DRAWN = 500_000  # numbers in all, 50 ms: fewer draws for runs of hundreds of launches


def order_ratio(levels: Array) -> Array:
    """Return the rank von Neumann ratio along the last axis: small where neighbours in time are alike, 2 by chance.

    The sum of squared steps between the ranks over their sum of squares (Bartels, "The rank version of von Neumann's
    ratio test for randomness", JASA 77 (1982)); equal values share their mean rank. Infinite where all are equal.
    """
    return _von_neumann_ratio(_mean_ranks(levels))


def group_ratio(levels: Array) -> tuple[Array, NDArray[np.intp]]:
    """Return how well two groups explain the values along the last axis, and how many values the lower group has.

    The largest ratio, over all splits of the sorted values, of the sum of squares between two groups to that within
    them (Engelman and Hartigan, "Percentage points of a test for clusters", JASA 64 (1969)). Within the groups
    there is at least the resolution.
    """
    count = levels.shape[-1]
    centred = np.sort(levels - levels.mean(axis=-1, keepdims=True), axis=-1)
    sizes = np.arange(1, count)
    lower_sums = np.cumsum(centred, axis=-1)[..., sizes - 1]
    between = lower_sums**2 * (1 / sizes + 1 / (count - sizes))
    best = between.argmax(axis=-1)
    explained = np.take_along_axis(between, best[..., np.newaxis], axis=-1)[..., 0]
    rest = (centred**2).sum(axis=-1) - explained
    return explained / np.maximum(rest, count * RESOLUTION**2), sizes[best]


def block_pieces(samples: Array) -> Array:
    """Return the medians of four consecutive pieces of each block, shape (..., `PIECES`); samples on the last axis."""
    parts = np.array_split(samples, PIECES, axis=-1)
    return np.stack([np.median(part, axis=-1) for part in parts], axis=-1)


def neighbour_correlation(samples: Array) -> Array:
    """Return the correlation of neighbouring samples along the last axis, from 0 up, as of a first-order process.

    Corrected for the bias of a short series, E(r) = phi - (1 + 3 phi) / n (Kendall, "Note on bias in the estimation
    of autocorrelation", Biometrika 41 (1954)). 0 where all samples are equal.
    """
    count = samples.shape[-1]
    deviations = samples - samples.mean(axis=-1, keepdims=True)
    squares = (deviations**2).sum(axis=-1)
    products = (deviations[..., 1:] * deviations[..., :-1]).sum(axis=-1)
    # A correlation of -1 / count is what independent samples show, and becomes 0.
    seen = np.divide(products, squares, out=np.full(squares.shape, -1 / count), where=squares > 0)
    corrected: Array = np.clip((count * seen + 1) / (count - 3), 0, _LARGEST_CORRELATION)
    return corrected


def movement_ratio(pieces: Array, correlations: Array, length: float) -> Array:
    """Return how much more the level moves between the blocks of a launch than within them: 1 when it stays.

    The variance between the means of a launch's blocks is set against what the differences among a block's pieces let
    expect of it: variances at two scales of time (Allan, "Statistics of atomic frequency standards", Proceedings of
    the IEEE 54 (1966)). Independent samples make it Fisher's F with `movement_freedom`. Dependent ones raise it, by
    `correlation_inflation` if they are a first-order process: that is divided out.

    Args:
        pieces: (..., launches, blocks, `PIECES`), from `block_pieces`; NaN for a block that is not there.
        correlations: (..., launches, blocks), from `neighbour_correlation`; NaN likewise. Their median counts: a block
            in which the level jumps is correlated by the jump.
        length: samples of a block, the typical one if they differ.
    """
    moves, spread = movement_freedom(pieces)
    blocks = pieces.mean(axis=-1)
    counts = (~np.isnan(blocks)).sum(axis=-1, keepdims=True)
    means = np.nansum(blocks, axis=-1, keepdims=True) / np.maximum(counts, 1)
    between = np.nansum((blocks - means) ** 2, axis=(-2, -1)) / moves
    within = np.nansum((pieces - blocks[..., np.newaxis]) ** 2, axis=(-3, -2, -1)) / spread / PIECES
    correlation = np.nanmedian(correlations, axis=(-2, -1))
    ratio: Array = between / np.maximum(within, RESOLUTION**2) / correlation_inflation(correlation, length / PIECES)
    return ratio


def movement_freedom(pieces: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the degrees of freedom of `movement_ratio`: blocks less launches, and pieces less blocks."""
    counts = (~np.isnan(pieces).any(axis=-1)).sum(axis=-1)
    return np.maximum(counts - 1, 0).sum(axis=-1), (PIECES - 1) * counts.sum(axis=-1)


def correlation_inflation(correlation: Array, length: float) -> Array:
    """Return the expected `movement_ratio`, uncorrected, of a first-order autoregressive process.

    From the covariances of means of `length` consecutive values, k pieces apart, in units of the variance of one:
    phi^(length (k - 1) + 1) ((1 - phi^length) / (length (1 - phi)))^2, and for k = 0 the variance of a mean (Box,
    Jenkins and Reinsel, "Time Series Analysis", section 2.1.3, with rho_k = phi^k).
    """
    rest = 1 - correlation
    damped = (1 - correlation**length) / (length * rest)
    variance = ((1 + correlation) / rest - 2 * correlation * damped / rest) / length
    apart = [correlation ** (length * (k - 1) + 1) * damped**2 for k in range(1, PIECES)]
    pairs = sum((PIECES - k) * covariance for k, covariance in enumerate(apart, start=1))
    of_block = (PIECES * variance + 2 * pairs) / PIECES**2
    of_pieces = (variance - of_block) * PIECES / (PIECES - 1)
    return of_block / (of_pieces / PIECES)


@lru_cache(maxsize=64)
def order_null(count: int) -> Array:
    """Return the sorted ratios that chance gives to values in any order: all orders of few, drawn ones of many.

    Free of any assumption on the distribution; a seeded draw, so the same numbers always.
    """
    if count <= _MOST_PERMUTED:
        ranks = np.array(list(itertools.permutations(range(count))), dtype=np.float64)
    else:
        ranks = np.argsort(np.random.default_rng(count).random((_draws(count), count)), axis=-1).astype(np.float64)
    return np.sort(_von_neumann_ratio(ranks))


@lru_cache(maxsize=64)
def group_null(count: int) -> Array:
    """Return the sorted ratios that chance gives to independent heavy-tailed values; a seeded draw.

    Of Student's t with 3 degrees of freedom: a launch that was disturbed is no mode. Normal values give smaller
    ratios, so there the false alarms are fewer than declared; a skewed or a flat distribution gives larger ones.
    """
    draws = np.random.default_rng(count).standard_t(3, (_draws(count), count))
    return np.sort(group_ratio(draws)[0])


def _draws(count: int) -> int:
    return min(_DRAWS, _MOST_DRAWN // count)


def _von_neumann_ratio(values: Array) -> Array:
    squares = ((values - values.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    steps = (np.diff(values, axis=-1) ** 2).sum(axis=-1)
    ratio: Array = np.divide(steps, squares, out=np.full(squares.shape, np.inf), where=squares > 0)
    return ratio


def _mean_ranks(levels: Array) -> Array:
    """Return the ranks along the last axis; equal values share their mean."""
    below = (levels[..., np.newaxis] > levels[..., np.newaxis, :]).sum(axis=-1)
    equal = (levels[..., np.newaxis] == levels[..., np.newaxis, :]).sum(axis=-1)
    ranks: Array = below + (equal + 1) / 2
    return ranks
