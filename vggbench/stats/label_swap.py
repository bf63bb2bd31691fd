"""The label-swap test: are cells slower by more than the chance of which side was called head lets expect?

In each round the two sides of all cells are measured close to each other. If they are the same thing, head and base
are two names: swapping them in any choice of rounds was as likely to be seen. The test counts the choices that look as
bad as what was seen, so it assumes neither a distribution nor independent cells. Numpy only.

The statistic (`scores`) is a robust one-sample t statistic: R. A. Fisher, "The Design of Experiments" (1935), section
21, for the swaps; P. J. Huber, "Robust Statistics" (1981), section 7.8, for the smooth psi function; P. H. Westfall and
S. S. Young, "Resampling-Based Multiple Testing" (1993), algorithm 2.8, for many cells at once by the joint maximum.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# Up to here all 2^rounds swaps are counted; beyond it as many are drawn.
LARGEST_EXACT_ROUNDS = 13
DRAWS = 2**LARGEST_EXACT_ROUNDS  # a p-value of 1 % is then known to 0.11 points, and holds its level exactly anyway
# A movement of all rounds by about this much is what a gate is for: cells beyond it weigh more than quieter ones.
WEIGHT_UNIT = 0.01
# Two statistics that are equal in exact arithmetic may differ by this in floats; they are of the order of 1.
ROUNDING = 1e-10
_LARGEST_PART = 2**22  # floats of a table of statistics held at once: 32 MiB


def swap_p_values(effects: ArrayLike, *, seed: int = 0) -> Array:
    """Return each cell's one-sided p-value, family-wise over all cells, that its effects are centred above 0.

    Args:
        effects: (..., cells, rounds): log(head / base) less what is tolerated; one round's effects of all cells are
            swapped together. Leading axes are tables of their own.
        seed: of the drawn swaps, where not all are counted.

    Returns:
        (..., cells), from 1 / swaps to 1. Rejecting where p <= alpha errs in at most alpha of tables, in any cell that
        is not slower at all, whatever the others are (Westfall and Young's step-down: strong control).

    Raises `ValueError` for no cells or rounds, NaN or infinity.
    """
    table = np.asarray(effects, dtype=np.float64)
    if table.ndim < 2 or 0 in table.shape[-2:]:
        raise ValueError(f"effects of shape {table.shape} are no table of cells and rounds")
    if not np.isfinite(table).all():
        raise ValueError("an effect is NaN or infinite")
    scored = scores(table)
    seen = scored.sum(axis=-1)
    order = np.argsort(-seen, axis=-1, kind="stable")
    ordered = np.take_along_axis(scored, order[..., np.newaxis], axis=-2)
    sorted_p = _step_down(ordered, swaps(table.shape[-1], seed))
    p_values: Array = np.empty_like(seen)
    np.put_along_axis(p_values, order, sorted_p, axis=-1)
    return p_values


def scores(effects: Array) -> Array:
    """Return what each round adds to the statistic of its cell; a swap changes its sign and nothing else.

    psi(x / s) with the smooth psi(u) = u / sqrt(1 + u^2) and s the median of the cell's |x|: one disturbed round counts
    as one round, however slow it was. The sum over rounds is divided by its root sum of squares, as in a t statistic,
    and multiplied by sqrt(s / (s + `WEIGHT_UNIT`)): among many cells, one that moves by a percent is not drowned by
    those in which every round happens to point the same way by little. A weight moves power between cells; the level
    holds with any that swaps leave alone.
    """
    sizes = np.median(np.abs(effects), axis=-1, keepdims=True)
    lengths = np.hypot(effects, sizes)
    bounded = np.divide(effects, lengths, out=np.zeros_like(effects), where=lengths > 0)
    norms = np.sqrt((bounded**2).sum(axis=-1, keepdims=True))
    weights = np.sqrt(sizes / (sizes + WEIGHT_UNIT)) / np.where(norms > 0, norms, 1)
    scored: Array = bounded * weights
    return scored


@lru_cache(maxsize=16)
def swaps(rounds: int, seed: int = 0) -> Array:
    """Return choices of rounds to swap, shape (rounds, choices), as 1 and -1; the first swaps none.

    All 2^rounds of few rounds, seeded draws of many; what was seen is one of them, so that a p-value is never 0 and a
    test by drawn swaps has its level exactly (B. Phipson and G. K. Smyth, "Permutation p-values should never be zero",
    Statistical Applications in Genetics and Molecular Biology 9 (2010)).
    """
    if rounds <= LARGEST_EXACT_ROUNDS:
        choices = (np.arange(2**rounds) >> np.arange(rounds)[:, np.newaxis]) & 1
    else:
        choices = np.random.default_rng((seed, rounds)).integers(0, 2, (rounds, DRAWS))
        choices[:, 0] = 0
    return np.where(choices == 1, -1.0, 1.0).astype(np.float64)


def _step_down(ordered: Array, signs: Array) -> Array:
    """Return the p-values of scores whose cells stand in falling order of what was seen.

    A cell is held against the maximum over itself and those after it; no cell is surer than one before it.
    """
    seen = ordered.sum(axis=-1, keepdims=True) - ROUNDING
    reached = np.zeros(ordered.shape[:-1])
    for part in _parts(signs, int(np.prod(ordered.shape[:-1]))):
        swapped = ordered @ part
        largest = np.maximum.accumulate(swapped[..., ::-1, :], axis=-2)[..., ::-1, :]
        reached += (largest >= seen).sum(axis=-1)
    p_values: Array = np.maximum.accumulate(reached / signs.shape[-1], axis=-1)
    return p_values


def _parts(signs: Array, cells: int) -> list[Array]:
    """Return the swaps in parts whose table of statistics fits into memory."""
    width = max(1, _LARGEST_PART // cells)
    return [signs[:, start : start + width] for start in range(0, signs.shape[-1], width)]
