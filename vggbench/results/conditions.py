"""The columns of what else went on while a row was measured. No torch, no pandas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vggbench.measure.disturbance import Disturbance, sum_up
from vggbench.measure.records import RoundRecord, SessionRecord


def disturbance_of(finished: Iterable[RoundRecord]) -> Disturbance:
    """Return what went on beside the timed blocks; what disturbed a warm-up is in no figure."""
    blocks = [block for record in finished for session in record.sessions for block in session.blocks]
    return sum_up([block.conditions for block in blocks if block.conditions and block.kind != "warmup"])


def conditions(found: Disturbance, records: Iterable[RoundRecord]) -> dict[str, Any]:
    """Return the columns."""
    return {
        "other_cpu_percent": found.other_cpu_percent,
        "steal_percent": found.steal_percent,
        "throttled_ms": found.throttled_ms,
        "switches_per_s": found.switches_per_s,
        "clock_mhz": found.clock_mhz,
        "clock_moved_percent": found.clock_moved_percent,
        "gpu_temperature_c": found.gpu_temperature_c,
        "pinned_cpus": _pinned([session for record in records for session in record.sessions]),
    }


def _pinned(sessions: Sequence[SessionRecord]) -> str | None:
    """Return the CPUs that every session was kept to; None if one was not, or to others."""
    masks = {session.pinned_cpus for session in sessions}
    only = masks.pop() if len(masks) == 1 else None
    return " ".join(map(str, only)) if only else None
