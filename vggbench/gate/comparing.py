"""The verdicts on stored runs: is a candidate slower than what base runs let expect of one more of them?

A run is one number a cell. How much two runs of the same thing differ is seen in no single run: it takes several base
runs, and then a prediction interval. Standard library, and statistics that need no more.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from vggbench.errors import CellError, CheckFailed, Inconclusive
from vggbench.gate.comparability import under_test
from vggbench.gate.records import CellVerdict, GateReport, MissingCell, Rule, VerdictName
from vggbench.gate.stored import StoredCell, StoredRun
from vggbench.stats.prediction import prediction_interval, prediction_scale, t_at_least, t_quantile

LEAST_BASE_RUNS = 5  # four degrees of freedom: with three, an interval of 95 % is 3.6 standard errors either way
# Family-wise, by Holm's procedure, if runs are independent and their logarithms normal: more than a paired gate's 1 %,
# since of five runs nothing could be found at that.
COMPARISON_LEVEL = 0.05
_POWER_TAIL = 0.1  # nine times in ten
_MOST_RUNS = 100  # beyond it no number of base runs is said to help


@dataclass(frozen=True, slots=True)
class _Pair:
    """A cell's candidate and its usable base runs; `excluded` says what stood against the others."""

    head: StoredCell
    logs: tuple[float, ...]
    excluded: tuple[str, ...]

    @property
    def effect(self) -> float:
        """log(head / base), of the mean of the base runs' logarithms."""
        assert self.head.latency_ms is not None
        return math.log(self.head.latency_ms) - fmean(self.logs)

    @property
    def decides(self) -> bool:
        """Whether the base runs are enough to say how much runs differ."""
        return len(self.logs) >= LEAST_BASE_RUNS

    def p_value(self, beyond: float) -> float:
        """Return how often one more base run would lie at least so far beyond; Student's t."""
        scale = prediction_scale(self.logs)
        if scale == 0:
            return 0.0 if beyond > 0 else 1.0
        return t_at_least(beyond / scale, len(self.logs) - 1)


def compare(
    bases: Sequence[StoredRun],
    head: StoredRun,
    rule: Rule,
    changed: Sequence[str] = (),
    *,
    inconclusive_passes: bool = False,
) -> GateReport:
    """Return the verdicts; `NotComparable` or `RequestError` as `under_test`."""
    found = under_test(bases, head, changed)
    shared = [cell for name, cell in head.cells.items() if all(name in base.cells for base in bases)]
    enough = len(bases) >= LEAST_BASE_RUNS
    return GateReport(
        kind="compare",
        base=", ".join(base.name for base in bases),
        head=head.name,
        rule=rule,
        verdicts=_verdicts(shared, bases, rule),
        missing=_missing(bases, head),
        differences=found,
        notes=_notes(bases, changed, found),
        inconclusive_passes=inconclusive_passes,
        false_alarm_rate=COMPARISON_LEVEL if enough else None,
    )


def _notes(bases: Sequence[StoredRun], changed: Sequence[str], found: Mapping[str, object]) -> tuple[str, ...]:
    notes = [f"nothing that --changed {', '.join(changed)} names differs"] if changed and not found else []
    if len(bases) < LEAST_BASE_RUNS:
        text = f"{len(bases)} base runs do not show how much two runs differ; give at least {LEAST_BASE_RUNS}"
        return (*notes, f"{text}, or measure both sides in turn, round by round")
    text = "that rate holds if runs are independent and their logarithms normal"
    return (*notes, f"{text}: spread base runs over days, not minutes")


def _missing(bases: Sequence[StoredRun], head: StoredRun) -> tuple[MissingCell, ...]:
    everywhere = {name: cell for run in (*bases, head) for name, cell in run.cells.items()}
    return tuple(
        MissingCell(name, cell.title, "base" if name in head.cells else "head")
        for name, cell in everywhere.items()
        if not (name in head.cells and all(name in base.cells for base in bases))
    )


def _verdicts(cells: Sequence[StoredCell], bases: Sequence[StoredRun], rule: Rule) -> tuple[CellVerdict, ...]:
    pairs = [_pair(cell, [base.cells[cell.cell_id] for base in bases]) for cell in cells]
    tested = [pair for pair in pairs if not _wrong(pair) and pair.decides]
    tolerated = math.log1p(rule.tolerance)
    slower = _holm({pair.head.cell_id: pair.p_value(pair.effect - tolerated) for pair in tested})
    faster = _holm({pair.head.cell_id: pair.p_value(-pair.effect - tolerated) for pair in tested})
    return tuple(_judge(pair, rule, slower, faster) for pair in pairs)


def _pair(head: StoredCell, bases: Sequence[StoredCell]) -> _Pair:
    """Leave out base runs by what is known of their conditions, never by what they measured."""
    usable = [base for base in bases if not _against(base, head)]
    logs = tuple(math.log(base.latency_ms) for base in usable if base.latency_ms is not None)
    return _Pair(head, logs, tuple(reason for base in bases for reason in _against(base, head)))


def _against(base: StoredCell, head: StoredCell) -> tuple[str, ...]:
    if base.timing != head.timing and head.timing is not None and base.timing is not None:
        return (*base.wrong, f"timed by {base.timing} in base and by {head.timing} in head")
    return base.wrong or (() if base.latency_ms is not None else ("it was not timed",))


def _wrong(pair: _Pair) -> tuple[str, ...]:
    if pair.head.wrong or pair.head.latency_ms is None:
        return tuple(f"head: {reason}" for reason in pair.head.wrong or ("it was not timed",))
    if not pair.logs:
        return tuple(dict.fromkeys(f"base: {reason}" for reason in pair.excluded))
    return ()


def _holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return family-wise p-values (S. Holm, Scandinavian Journal of Statistics 6 (1979))."""
    adjusted, largest = {}, 0.0
    for place, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_value))
        adjusted[name] = largest
    return adjusted


def _judge(pair: _Pair, rule: Rule, slower: Mapping[str, float], faster: Mapping[str, float]) -> CellVerdict:
    if wrong := _wrong(pair):
        return _verdict(pair, "INVALID", wrong, _invalid_code(pair))
    if not pair.decides:
        left = f", {len(pair.excluded)} findings stand against others" if pair.excluded else ""
        text = f"{len(pair.logs)} usable base runs{left}; {LEAST_BASE_RUNS} are needed"
        return _verdict(pair, "INCONCLUSIVE", (text,), Inconclusive.exit_code, ratio=math.exp(pair.effect))
    figures = _figures(pair, rule, len(slower))
    if slower[pair.head.cell_id] <= COMPARISON_LEVEL:
        text = f"slower than {len(pair.logs)} base runs and the tolerance of {rule.tolerance:.3g} let expect"
        return _verdict(pair, "REGRESSED", (text,), CheckFailed.exit_code, **figures)
    if faster[pair.head.cell_id] <= rule.improvement_level:
        return _verdict(pair, "IMPROVED", (), 0, **figures)
    if figures["high"] < 1 + rule.budget:
        return _verdict(pair, "PASS", (), 0, **figures)
    doubt = _doubt(pair, rule, len(slower), figures["high"])
    return _verdict(pair, "INCONCLUSIVE", (doubt,), Inconclusive.exit_code, **figures)


def _figures(pair: _Pair, rule: Rule, cells: int) -> dict[str, float]:
    """Return the candidate over the base runs, and over the ends of what one more of them may be."""
    low, high = prediction_interval(pair.logs)
    head = pair.effect + fmean(pair.logs)
    return {
        "ratio": math.exp(pair.effect),
        "low": math.exp(head - high),
        "high": math.exp(head - low),
        "mde90": _smallest_found(pair, rule, cells),
    }


def _smallest_found(pair: _Pair, rule: Rule, cells: int) -> float:
    tolerated = math.log1p(rule.tolerance)
    return math.expm1(tolerated + prediction_scale(pair.logs) * _needed_scales(len(pair.logs), cells))


def _needed_scales(runs: int, cells: int) -> float:
    """Return how many standard errors beyond the tolerance are found nine times in ten, at Bonferroni's level."""
    return t_quantile(COMPARISON_LEVEL / cells, runs - 1) + t_quantile(_POWER_TAIL, runs - 1)


def _doubt(pair: _Pair, rule: Rule, cells: int, high: float) -> str:
    scatter = stdev(pair.logs)
    runs = _runs_for_budget(scatter, len(pair.logs), cells, rule)
    if runs is None:
        remedy = f"runs differ by {scatter:.1%}, and more of them show no less: measure both sides in turn"
    else:
        remedy = f"{runs} base runs would show {rule.budget:.1%} nine times in ten"
    return f"it may be slower by {high - 1:.1%}, the budget is {rule.budget:.1%}; {remedy}"


def _runs_for_budget(scatter: float, present: int, cells: int, rule: Rule) -> int | None:
    """Return the fewest base runs that find a slowdown by the budget nine times in ten; None if many do not."""
    room = math.log1p(rule.budget) - math.log1p(rule.tolerance)

    def are_enough(runs: int) -> bool:
        return scatter * math.sqrt(1 + 1 / runs) * _needed_scales(runs, cells) <= room

    choice = range(present, _MOST_RUNS + 1)
    place = bisect_left(choice, True, key=are_enough)
    return choice[place] if place < len(choice) else None


def _invalid_code(pair: _Pair) -> int:
    if pair.head.outputs:
        return CheckFailed.exit_code
    return CellError.exit_code if pair.head.failed else Inconclusive.exit_code


def _verdict(
    pair: _Pair, verdict: VerdictName, reasons: Sequence[str], code: int, **figures: float | None
) -> CellVerdict:
    return CellVerdict(
        cell_id=pair.head.cell_id,
        title=pair.head.title,
        identity=pair.head.identity,
        verdict=verdict,
        base_ms=math.exp(fmean(pair.logs)) if pair.logs else None,
        head_ms=pair.head.latency_ms,
        reasons=tuple(reasons),
        exit_code=code,
        ratio=figures.get("ratio"),
        low=figures.get("low"),
        high=figures.get("high"),
        mde90=figures.get("mde90"),
    )
