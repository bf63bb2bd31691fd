"""Whether a row's blocks were measured undisturbed: their conditions summed up, and judged. Standard library only.

Shares are of the CPU time that the worker's CPUs had while blocks were timed, all rounds together: the figure is a
median over rounds, so what matters is how much of the time was lost, not whether one moment was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from vggbench.measure.conditions import Conditions
from vggbench.measure.gpu_state import GpuState
from vggbench.measure.validity import Finding

LEAST_JUDGED_S = 1.0  # of CPU time in timed blocks: a hundred ticks of the kernel's accounting, which are 1 % each
OTHER_CPU_PERCENT = 3.0  # half the usual width of a row's interval; a system at rest needs less than 1 % for itself
STEAL_PERCENT = 1.0  # a CPU that is gone stops all threads that wait for its one, so it counts for more
SWITCHES_PER_CPU_S = (
    50.0  # a CPU that two threads want switches every 3 ms or so: one seventh of the time it was wanted
)
# What others have where they are whom the threads give way to; with less, a worker's threads do so to each other.
OTHERS_AT_WORK_PERCENT = 1.0
THROTTLED_PERCENT = 1.0  # a throttled thread stops the others, as a stolen CPU does
CLOCK_MOVED_PERCENT = 5.0  # a request that computes follows the clock one to one: that is a whole interval's width


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """The conditions of a row's timed blocks, summed up; None is what this system does not tell.

    Attributes:
        other_cpu_percent: CPU time that other processes had on the worker's cores.
        steal_percent: time that the hypervisor kept those cores for other guests.
        throttled_percent: time that threads waited because the control group's quota was used up.
        throttled_ms: the same in all.
        switches_per_s: times a second that a thread of the worker had to give way, on each CPU.
        clock_mhz: clock of the worker's CPUs (a GPU's SM clock): median over blocks.
        clock_moved_percent: from the fastest block's clock to the slowest's.
        slowdowns: what NVML says held the GPU's clocks down, each with the number of blocks, and the number of all.
        gpu_temperature_c: highest at any edge of a block.
    """

    other_cpu_percent: float | None = None
    steal_percent: float | None = None
    throttled_percent: float | None = None
    throttled_ms: float | None = None
    switches_per_s: float | None = None
    clock_mhz: float | None = None
    clock_moved_percent: float | None = None
    slowdowns: tuple[tuple[str, int], ...] = ()
    blocks: int = 0
    gpu_temperature_c: int | None = None


def sum_up(blocks: Sequence[Conditions]) -> Disturbance:
    """Return what the blocks' conditions come to; nothing is known where too little time was watched."""
    capacity_s = sum(block.wall_s * block.cpus for block in blocks)
    if capacity_s < LEAST_JUDGED_S:
        return Disturbance()

    def share(value: Callable[[Conditions], float | None]) -> float | None:
        total = _total(map(value, blocks))
        return None if total is None else 100 * max(0.0, total) / capacity_s

    throttled_s = _total(block.throttled_s for block in blocks)
    switches = _total(block.involuntary_switches for block in blocks)
    clocks = [clock for block in blocks if (clock := _clock(block))]
    names = [name for block in blocks for name in _slowdowns(block)]
    temperatures = [
        state.temperature_c for block in blocks for state in _states(block) if state.temperature_c is not None
    ]
    return Disturbance(
        other_cpu_percent=share(_others),
        steal_percent=share(lambda block: block.steal_s),
        throttled_percent=share(lambda block: block.throttled_s),
        throttled_ms=None if throttled_s is None else 1000 * throttled_s,
        switches_per_s=None if switches is None else switches / capacity_s,
        clock_mhz=median(clocks) if clocks else None,
        clock_moved_percent=100 * (1 - min(clocks) / max(clocks)) if clocks else None,
        slowdowns=tuple((name, names.count(name)) for name in dict.fromkeys(names)),
        blocks=len(blocks),
        gpu_temperature_c=max(temperatures, default=None),
    )


def _states(block: Conditions) -> list[GpuState]:
    return [state for state in (block.gpu_before, block.gpu) if state is not None]


def _slowdowns(block: Conditions) -> list[str]:
    """Return what held the clocks down at either edge of a block, each once."""
    return list(dict.fromkeys(name for state in _states(block) for name in state.slowdowns or ()))


def _others(block: Conditions) -> float | None:
    """Return the CPU seconds that belong neither to the worker nor to the vggbench that waits for it."""
    return None if block.busy_s is None else block.busy_s - block.own_cpu_s - (block.parent_cpu_s or 0.0)


def _clock(block: Conditions) -> float | None:
    return block.gpu.sm_clock_mhz if block.gpu else block.clock_mhz


def _total(values: Iterable[float | None]) -> float | None:
    """Return the sum of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def judge_disturbance(found: Disturbance) -> list[Finding]:
    """Return what was beyond its limit, with what to do about it."""
    return [
        finding
        for finding in (_throttled(found), _slowed(found), _moved(found), *_contended(found))
        if finding is not None
    ]


def _contended(found: Disturbance) -> list[Finding | None]:
    return [
        _beyond(
            found.other_cpu_percent,
            OTHER_CPU_PERCENT,
            "contended",
            "other processes had {value:.0f} % of the worker's CPU time (let pass: {limit:g} %); end them or measure "
            "when they are done",
        ),
        _beyond(
            found.steal_percent,
            STEAL_PERCENT,
            "contended",
            "the hypervisor gave {value:.1f} % of the worker's CPU time to other guests (let pass: {limit:g} %); use a "
            "dedicated machine or another hour",
        ),
        _gave_way(found),
    ]


def _gave_way(found: Disturbance) -> Finding | None:
    """A library with more threads than CPUs (one that waits beside those that compute) has them give way to each other.

    That is its own cost, and no disturbance: so it counts only where others had CPU time, or nobody can tell.
    """
    others = found.other_cpu_percent
    if others is not None and others + (found.steal_percent or 0.0) <= OTHERS_AT_WORK_PERCENT:
        return None
    return _beyond(
        found.switches_per_s,
        SWITCHES_PER_CPU_S,
        "contended",
        "the worker's threads had to give way {value:.0f} times a second on each CPU (let pass: {limit:g}); end "
        "other processes or use fewer threads",
    )


def _throttled(found: Disturbance) -> Finding | None:
    return _beyond(
        found.throttled_percent,
        THROTTLED_PERCENT,
        "throttled",
        "the cgroup's CPU quota stopped the worker for {value:.0f} % of its time (let pass: {limit:g} %); raise the "
        "container's CPU limit or use fewer threads",
    )


def _slowed(found: Disturbance) -> Finding | None:
    if not found.slowdowns:
        return None
    names = ", ".join(f"{name} ({count} of {found.blocks} blocks)" for name, count in found.slowdowns)
    return Finding("throttled", f"the GPU held its clocks down: {names}; cool it, or lock its clocks below the limit")


def _moved(found: Disturbance) -> Finding | None:
    return _beyond(
        found.clock_moved_percent,
        CLOCK_MOVED_PERCENT,
        "throttled",
        "the clock moved by {value:.0f} % between blocks (let pass: {limit:g} %); fix it (`vggbench doctor` says how) "
        "and see to the cooling",
    )


def _beyond(value: float | None, limit: float, status: str, text: str) -> Finding | None:
    return None if value is None or value <= limit else Finding(status, text.format(value=value, limit=limit))
