"""From timed blocks to a round's effect: how much slower head was than base in one pair of processes.

Numpy and records only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vggbench.gate.records import CellEffects
from vggbench.stats import median

LEAST_BLOCKS = 1  # pairs of blocks that make a round


def block_effects(
    base: Sequence[Sequence[float]], head: Sequence[Sequence[float]], *, dropped: int
) -> tuple[float, ...]:
    """Return log(head / base) of each pair of blocks of one round, from the medians of their later iterations.

    Args:
        base: blocks of durations in any unit, each in the order in which they were timed.
        head: likewise; its n-th block was timed next to base's n-th.
        dropped: first iterations of each block that do not count.

    Raises `ValueError` for no blocks, another number of them on either side, a block with nothing left, and durations
    that are not positive numbers.
    """
    if len(base) != len(head) or len(base) < LEAST_BLOCKS:
        raise ValueError(f"{len(base)} blocks of base and {len(head)} of head make no pairs")
    return tuple(
        float(np.log(_block_median(later, dropped)) - np.log(_block_median(earlier, dropped)))
        for earlier, later in zip(base, head, strict=True)
    )


def round_effects(rounds: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Return the effect of each round, shape (rounds,): the median over its pairs of blocks; NaN where there is none.

    A NaN or an infinity among the pairs makes the round's effect NaN.
    """
    return np.array([_round_effect(pairs) for pairs in rounds], dtype=np.float64)


def is_measured(effects: CellEffects) -> bool:
    """Say whether nothing stands against judging the cell's rounds."""
    return not (effects.invalid or effects.outputs or effects.failed)


def _round_effect(pairs: Sequence[float]) -> float:
    values = np.asarray(pairs, dtype=np.float64)
    return float(np.median(values)) if values.size and np.isfinite(values).all() else float("nan")


def _block_median(block: Sequence[float], dropped: int) -> float:
    kept = block[dropped:]
    if not len(kept):
        raise ValueError(f"a block of {len(block)} iterations has none left when {dropped} are dropped")
    middle = median(kept)
    if not middle > 0:
        raise ValueError(f"a block's median is {middle}, not a duration")
    return middle
