"""The verdicts: which cells are flagged after the first stage, and what is said of each cell in the end.

Numpy and the standard library only. Every verdict starts from INCONCLUSIVE: what is not shown is not said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggbench.errors import CellError, CheckFailed, Inconclusive
from vggbench.gate.effects import is_measured, round_effects
from vggbench.gate.power import POWER, others_maxima, rounds_for_budget, smallest_found
from vggbench.gate.records import CellEffects, CellVerdict, Rule, VerdictName
from vggbench.stats import hodges_lehmann, signed_rank_interval
from vggbench.stats.label_swap import swap_p_values

Array = NDArray[np.float64]

_CODES: Mapping[VerdictName, int] = {
    "REGRESSED": CheckFailed.exit_code,
    "INVALID": Inconclusive.exit_code,
    "INCONCLUSIVE": Inconclusive.exit_code,
    "IMPROVED": 0,
    "PASS": 0,
}


@dataclass(frozen=True, slots=True)
class _Stage:
    """The first stage over the whole table.

    Attributes:
        slower: family-wise p-value of each cell being slower than the tolerance.
        faster: likewise of being faster.
        others: what each cell is held against (`power.others_maxima`).
    """

    slower: Mapping[str, float]
    faster: Mapping[str, float]
    others: Mapping[str, Array]


def flagged(effects: Sequence[CellEffects], rule: Rule) -> tuple[str, ...]:
    """Return the ids of the cells that the second stage has to measure, of effects of the first."""
    if rule.confirmation_rounds == 0:
        return ()
    return _flagged(effects, rule, _first_stage(effects, rule).slower)


def judge(effects: Sequence[CellEffects], rule: Rule) -> tuple[CellVerdict, ...]:
    """Return a verdict for each cell, in their order.

    Effects of both stages: cells that `flagged` named have the second, others do not. What is wrong with a cell makes
    it INVALID and nothing else; it takes no other cell along.
    """
    stage = _first_stage(effects, rule)
    asked = frozenset(_flagged(effects, rule, stage.slower))
    confirmed = _confirmed(effects, rule, asked)
    return tuple(_judge(cell, rule, stage, asked=cell.cell_id in asked, confirmed=confirmed) for cell in effects)


def _first_stage(effects: Sequence[CellEffects], rule: Rule) -> _Stage:
    """Test all cells whose rounds are complete, also those that turned out invalid later: the family stays the same."""
    cells = [cell for cell in effects if not _unusable(cell.rounds, rule.rounds)]
    if not cells:
        return _Stage({}, {}, {})
    names = [cell.cell_id for cell in cells]
    table = np.stack([round_effects(cell.rounds) for cell in cells])
    shifted = table - math.log1p(rule.tolerance)
    return _Stage(
        slower=_by_name(names, swap_p_values(shifted)),
        faster=_by_name(names, swap_p_values(-table - math.log1p(rule.tolerance))),
        others=dict(zip(names, others_maxima(shifted), strict=True)),
    )


def _flagged(effects: Sequence[CellEffects], rule: Rule, slower: Mapping[str, float]) -> tuple[str, ...]:
    level = rule.stages[0][1]
    return tuple(cell.cell_id for cell in effects if is_measured(cell) and slower.get(cell.cell_id, 1.0) <= level)


def _confirmed(effects: Sequence[CellEffects], rule: Rule, asked: frozenset[str]) -> frozenset[str]:
    """Return which flagged cells the last stage finds slower; without a second stage, all of them."""
    if rule.confirmation_rounds == 0:
        return asked
    again = [
        cell for cell in effects if cell.cell_id in asked and not _unusable(cell.confirmation, rule.confirmation_rounds)
    ]
    if not again:
        return frozenset()
    table = np.stack([round_effects(cell.confirmation) for cell in again]) - math.log1p(rule.tolerance)
    found = _by_name([cell.cell_id for cell in again], swap_p_values(table))
    return frozenset(name for name, p_value in found.items() if p_value <= rule.stages[1][1])


def _judge(cell: CellEffects, rule: Rule, stage: _Stage, *, asked: bool, confirmed: frozenset[str]) -> CellVerdict:
    wrong = _wrong(cell, rule, asked=asked)
    figures = _figures(cell, rule, stage, asked=asked)
    if wrong:
        return _verdict(cell, "INVALID", wrong, figures, code=_invalid_code(cell))
    if cell.cell_id in confirmed:
        return _verdict(cell, "REGRESSED", [_slower(rule, figures)], figures)
    if figures["high"] is None:
        return _verdict(cell, "INVALID", [f"{figures['rounds']} rounds have no 95 % interval; 6 are needed"], figures)
    if not asked and stage.faster[cell.cell_id] <= rule.improvement_level:
        return _verdict(cell, "IMPROVED", [], figures)
    if figures["high"] < 1 + rule.budget:
        return _verdict(cell, "PASS", [], figures)
    return _verdict(cell, "INCONCLUSIVE", [_doubt(rule, figures)], figures)


def _verdict(
    cell: CellEffects, verdict: VerdictName, reasons: Sequence[str], figures: Mapping[str, Any], code: int | None = None
) -> CellVerdict:
    return CellVerdict(
        cell_id=cell.cell_id,
        title=cell.title,
        identity=cell.identity,
        verdict=verdict,
        base_ms=cell.base_ms,
        head_ms=cell.head_ms,
        reasons=tuple(reasons),
        exit_code=_CODES[verdict] if code is None else code,
        **figures,
    )


def _figures(cell: CellEffects, rule: Rule, stage: _Stage, *, asked: bool) -> dict[str, Any]:
    """Return what the rounds say, as far as they can be read: of a flagged cell the fresh ones alone."""
    two_stages = asked and rule.confirmation_rounds > 0
    shown, expected = (cell.confirmation, rule.confirmation_rounds) if two_stages else (cell.rounds, rule.rounds)
    figures = {"flagged": two_stages, "rounds": len(cell.rounds) + len(cell.confirmation)}
    if _unusable(shown, expected) or _unusable(cell.rounds, rule.rounds):
        return {**figures, "ratio": None, "low": None, "high": None, "mde90": None, "rounds_needed": None}
    sample = round_effects(shown)
    low, high = signed_rank_interval(sample) or (None, None)
    samples = [round_effects(cell.rounds), *([sample] if two_stages else [])]
    mde90 = smallest_found(samples, rule, stage.others[cell.cell_id])
    return {
        **figures,
        "ratio": math.exp(hodges_lehmann(sample)),
        "low": None if low is None else math.exp(low),
        "high": None if high is None else math.exp(high),
        "mde90": mde90,
        "rounds_needed": None if mde90 is None else rounds_for_budget(mde90, rule),
    }


def _wrong(cell: CellEffects, rule: Rule, *, asked: bool) -> list[str]:
    """Return everything that stands against judging the cell."""
    reasons = [*cell.outputs, *cell.failed, *cell.invalid]
    if cell.failed:  # its rounds ended with it
        return reasons
    if unusable := _unusable(cell.rounds, rule.rounds):
        reasons.append(unusable)
    elif asked and rule.confirmation_rounds and (unusable := _unusable(cell.confirmation, rule.confirmation_rounds)):
        reasons.append(f"to confirm a slowdown: {unusable}")
    return reasons


def _unusable(rounds: Sequence[Sequence[float]], expected: int) -> str:
    """Return why these rounds cannot be judged; empty if they can. The number of rounds was declared."""
    if len(rounds) != expected:
        return f"{len(rounds)} rounds were measured, {expected} were declared"
    lost = [str(number) for number, effect in enumerate(round_effects(rounds), start=1) if not math.isfinite(effect)]
    return f"round {', '.join(lost)} has an effect that is not a number" if lost else ""


def _invalid_code(cell: CellEffects) -> int:
    if cell.outputs:
        return CheckFailed.exit_code
    return CellError.exit_code if cell.failed else Inconclusive.exit_code


def _slower(rule: Rule, figures: Mapping[str, Any]) -> str:
    stages = "both stages find" if figures["flagged"] else "the rounds find"
    return f"{stages} it slower than the tolerance of {rule.tolerance:.3g}"


def _doubt(rule: Rule, figures: Mapping[str, Any]) -> str:
    """Return why a cell is neither slower nor shown not to be, and what would help."""
    text = f"it may be slower by {figures['high'] - 1:.1%}, the budget is {rule.budget:.1%}"
    if figures["mde90"] is None:
        return f"{text}; these rounds would have found no slowdown with certainty: give more rounds"
    needed = figures["rounds_needed"]
    if needed is None:
        return f"{text}; give more rounds"
    found = f"{POWER:.0%} of gates would have found {figures['mde90']:.1%}"
    return f"{text}; {found}: give {needed} rounds, or measure on a quieter machine"


def _by_name(names: Sequence[str], values: Array) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values, strict=True)}
