"""From a cell's paired rounds to what is judged: the effects, and whatever stands against judging them.

What hits both sides alike moves no ratio; what hits one of them makes the cell invalid, whichever way it moved.
Records only; no torch, no pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median

from vggbench.gate.effects import block_effects
from vggbench.gate.environments import SIDES
from vggbench.gate.pairs import PairedRound
from vggbench.gate.records import CellEffects, Rule, Side, identity_of
from vggbench.measure.conditions import Conditions
from vggbench.measure.disturbance import (
    CLOCK_MOVED_PERCENT,
    OTHER_CPU_PERCENT,
    STEAL_PERCENT,
    THROTTLED_PERCENT,
    Disturbance,
    sum_up,
)
from vggbench.measure.records import SessionRecord
from vggbench.measure.validity import Finding
from vggbench.plan import Cell
from vggbench.results.findings import session_findings
from vggbench.results.run_info import Prepared

# Times what the other side had: less is how two samples of the same disturbance differ.
ONE_SIDED = 1.5


def cell_effects(
    cell: Cell, prepared: Mapping[Side, Prepared], records: Sequence[PairedRound], rule: Rule
) -> CellEffects:
    """Return what was measured of a cell; `prepared` is what each side measured it with."""
    findings = [finding for side in SIDES for finding in _side_findings(cell, side, prepared[side], records)]
    outputs = [found.reason for found in findings if found.status == "parity_failed"]
    failed = [found.reason for found in findings if found.status in ("failed", "timeout")]
    invalid = [found.reason for found in findings if found.status in ("precision_mismatch", "fallback")]
    whole = [record for record in records if record.whole]
    return CellEffects(
        cell_id=cell.id,
        title=cell.title,
        identity=identity_of(cell),
        rounds=_effects(whole, 1, rule),
        confirmation=_effects(whole, 2, rule),
        invalid=_once(invalid + list(_unlike(whole)) + list(_one_sided(whole)) + list(_unsteady(whole))),
        outputs=_once(outputs + list(_between(prepared["base"].tolerance, records))),
        failed=_once(failed),
        base_ms=_latency_ms(whole, "base", rule),
        head_ms=_latency_ms(whole, "head", rule),
    )


def _once(reasons: Sequence[str]) -> tuple[str, ...]:
    """Return each reason once, in order: fifteen rounds may have had the same one."""
    return tuple(dict.fromkeys(reasons))


def _side_findings(cell: Cell, side: Side, prepared: Prepared, records: Sequence[PairedRound]) -> Iterator[Finding]:
    """Return what is wrong with one side by itself, with the side's name before it."""
    if prepared.failure is not None:
        yield Finding(prepared.failure.status, f"{side}: {prepared.failure.stage}: {prepared.failure.reason}")
    for record in records:
        found = record.sides[side]
        if found.failure is not None:
            where = f"round {record.round + 1} of stage {record.stage} at {found.failure.stage}"
            yield Finding(found.failure.status, f"{side}: {where}: {found.failure.reason}")
        if found.session is not None:
            for finding in session_findings(cell, prepared, found.session):
                yield Finding(finding.status, f"{side}: {finding.reason}")


def _between(tolerance: float, records: Sequence[PairedRound]) -> Iterator[str]:
    """Two sides that are each right within the tolerance may still be further apart than one may be wrong."""
    worst = max((record.difference for record in records if record.difference is not None), default=0.0)
    if worst > tolerance:
        yield f"head's outputs are {worst:.3g} of the signal away from base's; the tolerance is {tolerance:.3g}"


def _effects(whole: Sequence[PairedRound], stage: int, rule: Rule) -> tuple[tuple[float, ...], ...]:
    ordered = sorted((record for record in whole if record.stage == stage), key=lambda record: record.round)
    dropped = rule.dropped_iterations
    return tuple(block_effects(_blocks(each, "base"), _blocks(each, "head"), dropped=dropped) for each in ordered)


def _blocks(record: PairedRound, side: Side) -> list[list[int]]:
    """Return a side's blocks (ns); a request that was faster than the clock's tick counts as 1 ns: no time is 0."""
    session = record.sides[side].session
    assert session is not None, "whole rounds have both sessions"
    return [[max(sample, 1) for sample in samples] for samples in session.samples("compute")]


def _latency_ms(whole: Sequence[PairedRound], side: Side, rule: Rule) -> float | None:
    blocks = [block[rule.dropped_iterations :] for record in whole for block in _blocks(record, side)]
    return median(median(block) for block in blocks) / 1e6 if blocks else None


def _sessions(whole: Sequence[PairedRound], side: Side) -> list[SessionRecord]:
    return [session for record in whole if (session := record.sides[side].session) is not None]


def _unlike(whole: Sequence[PairedRound]) -> Iterator[str]:
    """Compare what must be the same on both sides for their times to be comparable."""
    looks: tuple[tuple[str, Callable[[SessionRecord], object]], ...] = (
        ("timed on", lambda session: session.timeline),
        ("kept to the CPUs", lambda session: session.pinned_cpus),
    )
    for words, value in looks:
        base, head = ({value(session) for session in _sessions(whole, side)} for side in SIDES)
        if base != head or len(base) > 1:
            yield f"base was {words} {_listed(base)}, head {_listed(head)}: their times are not comparable"


def _listed(values: set[object]) -> str:
    return " or ".join(sorted(map(str, values)))


def _unsteady(whole: Sequence[PairedRound]) -> Iterator[str]:
    for side in SIDES:
        ends = [session.blocks[0].stop_reason for session in _sessions(whole, side)]
        unsettled = len(ends) - ends.count("steady")
        if 2 * unsettled > len(ends):
            yield f"{side}: {unsettled} of {len(ends)} warm-ups were not seen to get steady; {_QUIETER}"


def _one_sided(whole: Sequence[PairedRound]) -> Iterator[str]:
    """Say what disturbed one side and not the other, of what is read around every block."""
    found = {side: sum_up(_conditions(whole, side)) for side in SIDES}
    for words, limit, share in _SHARES:
        base, head = share(found["base"]), share(found["head"])
        if base is not None and head is not None and _apart(base, head, limit):
            yield f"{words} {base:.1f} % of base's time and {head:.1f} % of head's; {_QUIETER}"
    clocks = [found[side].clock_mhz for side in SIDES]
    if None not in clocks and _moved_percent(clocks) > CLOCK_MOVED_PERCENT:
        text = f"base ran at {clocks[0]:.0f} MHz, head at {clocks[1]:.0f} MHz"
        yield f"{text}; fix the clock (`vggbench doctor` says how)"


def _slowed_percent(found: Disturbance) -> float | None:
    """Return the share of blocks in which NVML named the commonest reason for lower clocks."""
    return 100 * max((count for _name, count in found.slowdowns), default=0) / found.blocks if found.blocks else None


_QUIETER = "measure on a quieter machine"
_SHARES: tuple[tuple[str, float, Callable[[Disturbance], float | None]], ...] = (
    ("other processes had", OTHER_CPU_PERCENT, lambda found: found.other_cpu_percent),
    ("the hypervisor took", STEAL_PERCENT, lambda found: found.steal_percent),
    ("the CPU quota stopped the workers for", THROTTLED_PERCENT, lambda found: found.throttled_percent),
    ("the GPU held its clocks down for", THROTTLED_PERCENT, _slowed_percent),
)


def _apart(base: float, head: float, limit: float) -> bool:
    low, high = sorted((base, head))
    return high - low > limit and high > ONE_SIDED * low


def _moved_percent(clocks: Sequence[float | None]) -> float:
    known = [clock for clock in clocks if clock]
    return 100 * (1 - min(known) / max(known)) if known else 0.0


def _conditions(whole: Sequence[PairedRound], side: Side) -> list[Conditions]:
    """Return those of the timed blocks; what disturbed a warm-up is in no effect."""
    blocks = [block for session in _sessions(whole, side) for block in session.blocks if block.kind == "compute"]
    return [block.conditions for block in blocks if block.conditions is not None]
