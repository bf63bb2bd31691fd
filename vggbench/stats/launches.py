"""Whether the launches of a cell are alike, or no interval over them can hold: two modes, or a level that drifts.

An interval over launches assumes that they are independent draws of one distribution. A backend that starts in a fast
or in a slow mode, and a machine that drifts, break that, and then the launches may agree among themselves and all be
wrong. What can be seen of it is looked for here; `largest_unseen_share` says what cannot. Numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vggbench.stats import signs
from vggbench.stats.beta import f_at_least
from vggbench.stats.location import checked_sample

# A launch: its blocks in the order of time, each the durations of its requests in that order.
Launch = Sequence[ArrayLike]

# Declared for `is_bimodal` and for `is_drifting` each, on independent launches: what a row costs that is sound.
FALSE_ALARM_RATE = 0.05
_LOOKS = 2  # each of the two asks two tests, at half the rate each
_LEAST_SAMPLES = 2 * signs.PIECES  # of a block whose pieces are compared: a median of one value is no median


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """What one test saw in the launches.

    Attributes:
        test: `groups`, launches in two groups; `switching`, two levels within the life of a launch; `order`, launches
            near in time are alike; `movement`, the level moves while a launch lives.
        found: whether chance does this more rarely than declared.
        p_value: how often chance does it; None where there is too little to tell.
        text: what was seen, for a row's reasons; empty unless found.
    """

    test: Literal["groups", "switching", "order", "movement"]
    found: bool
    p_value: float | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Whether the launches are bimodal, or drift, by the signs that were looked for."""

    signs: tuple[Sign, ...]

    @property
    def found(self) -> bool:
        """Say whether any sign was found."""
        return any(sign.found for sign in self.signs)

    @property
    def reason(self) -> str:
        """Return what was seen, for a row's reasons; empty if nothing was."""
        return ", and ".join(sign.text for sign in self.signs if sign.found)


def is_bimodal(launches: Sequence[Launch], *, false_alarms: float = FALSE_ALARM_RATE) -> Diagnosis:
    """Look for two modes: among the launches' figures, or within the life of a launch.

    `launches` are in the order of time, durations in any unit. Among launches it is the best split into two groups,
    held against heavy-tailed noise (`signs.group_ratio`). Within a launch it is movement (see `is_drifting`) that two
    levels explain. Independent launches raise it with a probability of `false_alarms` at most, whatever their tails
    up to Student's t with 3 degrees of freedom; skewed ones more often. A mode that no launch showed cannot be seen.
    Raises `ValueError` for no launches, a launch without samples, and durations that are not positive numbers.
    """
    return diagnose(launches, false_alarms=false_alarms)[0]


def is_drifting(launches: Sequence[Launch], *, false_alarms: float = FALSE_ALARM_RATE) -> Diagnosis:
    """Look for a level that moves in time: launches near in time are alike, or it moves while a launch lives.

    `launches` as for `is_bimodal`. Over launches it is the rank von Neumann ratio (`signs.order_ratio`), exact for
    independent launches of any distribution; within them, the variance between blocks against that within blocks
    (`signs.movement_ratio`), where samples may depend on one another much less far than a block is long.
    Independent launches raise it with a probability of `false_alarms` at most.
    Raises `ValueError` as `is_bimodal` does.
    """
    return diagnose(launches, false_alarms=false_alarms)[1]


def diagnose(launches: Sequence[Launch], *, false_alarms: float = FALSE_ALARM_RATE) -> tuple[Diagnosis, Diagnosis]:
    """Return what `is_bimodal` and `is_drifting` find, each at its own rate of false alarms; the samples are read once.

    Raises `ValueError` as they do.
    """
    seen = _Seen(launches)
    level = _level(false_alarms)
    modes = Diagnosis(signs=(_groups(seen, level), _switching(seen, level)))
    return modes, Diagnosis(signs=(_order(seen, level), _movement(seen, level)))


def largest_unseen_share(launches: int, *, confidence: float = 0.95) -> float:
    """Return the largest share of launches that a mode may have of which none of these launches was.

    1 - (1 - confidence)^(1 / launches): 39 % for 6 launches, 14 % for 20. No test on what was measured can see more.
    Raises `ValueError` for no launches, and for a confidence that is not between 0 and 1.
    """
    if launches < 1:
        raise ValueError("there are no launches")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence is between 0 and 1, not {confidence}")
    return float(1 - (1 - confidence) ** (1 / launches))


class _Seen:
    """The logarithms of what was measured, as the tests want them."""

    def __init__(self, launches: Sequence[Launch]) -> None:
        self.blocks = [[_logarithms(block) for block in launch] for launch in launches]
        if not self.blocks:
            raise ValueError("there are no launches")
        if not all(self.blocks):
            raise ValueError("a launch has no samples")
        self.figures = np.array([np.median([np.median(block) for block in blocks]) for blocks in self.blocks])
        self._compare_blocks()

    def _compare_blocks(self) -> None:
        width = max(len(blocks) for blocks in self.blocks)
        self.pieces = np.full((len(self.blocks), width, signs.PIECES), np.nan)
        self.correlations = np.full((len(self.blocks), width), np.nan)
        lengths = []
        for launch, blocks in enumerate(self.blocks):
            for number, block in enumerate(blocks):
                if block.size >= _LEAST_SAMPLES:
                    self.pieces[launch, number] = signs.block_pieces(block)
                    self.correlations[launch, number] = signs.neighbour_correlation(block)
                    lengths.append(block.size)
        self.length = float(np.median(lengths)) if lengths else 0.0

    def movement(self, pieces: NDArray[np.float64]) -> tuple[float, float | None]:
        """Return the ratio of movement in these pieces of the blocks, and its p-value; None without two blocks."""
        moves, spread = signs.movement_freedom(pieces)
        if moves == 0:
            return 1.0, None
        ratio = float(signs.movement_ratio(pieces, self.correlations, self.length))
        return ratio, f_at_least(ratio, int(moves), int(spread))


def _logarithms(block: ArrayLike) -> NDArray[np.float64]:
    sample = checked_sample(block)
    if sample.min() <= 0:
        raise ValueError(f"a duration is positive, not {sample.min()}")
    return np.log(sample)


def _level(false_alarms: float) -> float:
    if not 0 < false_alarms < 1:
        raise ValueError(f"a rate of false alarms is between 0 and 1, not {false_alarms}")
    return false_alarms / _LOOKS


def _groups(seen: _Seen, level: float) -> Sign:
    count = seen.figures.size
    if count < 3:  # two values are two groups whatever they are
        return Sign(test="groups", found=False, p_value=None, text="")
    ratio, lower = signs.group_ratio(seen.figures)
    p_value = _share_at_least(signs.group_null(count), float(ratio))
    ordered = np.sort(seen.figures)
    gap = np.exp(ordered[lower:].mean() - ordered[:lower].mean()) - 1
    few, which = min((count - int(lower), "slower"), (int(lower), "faster"))
    text = f"{few} of {count} launches {'is' if few == 1 else 'are'} {which} than the others, which lie {gap:.1%} apart"
    return _sign("groups", p_value, level, text)


def _switching(seen: _Seen, level: float) -> Sign:
    """Movement that two levels explain: without them nothing moves, and one launch at least has been at both."""
    _, p_value = seen.movement(seen.pieces)
    if p_value is None or p_value > level:
        return Sign(test="switching", found=False, p_value=p_value, text="")
    present = ~np.isnan(seen.pieces)
    ratio, lower = signs.group_ratio(seen.pieces[present])
    ordered = np.sort(seen.pieces[present])
    slow = present & (seen.pieces >= ordered[lower])
    gap = ordered[lower:].mean() - ordered[:lower].mean()
    _, unexplained = seen.movement(seen.pieces - gap * slow)
    both = (slow.any(axis=(1, 2)) & (present & ~slow).any(axis=(1, 2))).any()
    chance = _share_at_least(signs.group_null(ordered.size), float(ratio))
    found = bool(both and chance <= level and unexplained is not None and unexplained > level)
    text = f"launches switch between two levels {np.exp(gap) - 1:.1%} apart while they run" if found else ""
    return Sign(test="switching", found=found, p_value=max(p_value, chance), text=text)


def _order(seen: _Seen, level: float) -> Sign:
    count = seen.figures.size
    if count < 3:  # of two launches either order is as likely
        return Sign(test="order", found=False, p_value=None, text="")
    ratio = float(signs.order_ratio(seen.figures))
    p_value = _share_at_most(signs.order_null(count), ratio)
    text = f"launches near in time are alike (rank von Neumann ratio {ratio:.2f}, by chance 2)"
    return _sign("order", p_value, level, text)


def _movement(seen: _Seen, level: float) -> Sign:
    ratio, p_value = seen.movement(seen.pieces)
    text = f"the level moves while a launch runs ({ratio:.1f} times the variance that its samples explain)"
    return _sign("movement", p_value, level, text)


def _sign(
    test: Literal["groups", "switching", "order", "movement"], p_value: float | None, level: float, text: str
) -> Sign:
    found = p_value is not None and p_value <= level
    return Sign(test=test, found=found, p_value=p_value, text=text if found else "")


def _share_at_least(null: NDArray[np.float64], value: float) -> float:
    return float(1 - np.searchsorted(null, value - _hair(value), side="left") / null.size)


def _share_at_most(null: NDArray[np.float64], value: float) -> float:
    return float(np.searchsorted(null, value + _hair(value), side="right") / null.size)


def _hair(value: float) -> float:
    """Equal ratios may differ by rounding."""
    return 1e-9 * min(abs(value), 1e300)
