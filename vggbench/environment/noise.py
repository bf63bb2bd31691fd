"""What can be read of a machine's quietness; `judgement` says what it means.

Standard library, and psutil inside functions. Reading takes a short window, in which this process sleeps.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vggbench.environment.cgroup import read_limits, read_text
from vggbench.environment.cpu import is_virtual
from vggbench.environment.records import Activity, NoiseFacts

# Thirty ticks of the kernel's 10 ms CPU accounting: fine enough to see a tenth of a core.
WINDOW_S = 0.3
# A tenth of one core: three ticks of the window, above what an idle system's housekeeping takes.
OTHER_CPU_CORES = 0.1
# Processes that are named; more would not help to find the culprit.
BUSIEST = 3


@dataclass(frozen=True, slots=True)
class Counters:
    """CPU seconds so far: of all `cpus` (busy, stolen, total), of this process and its children, and by process."""

    cpus: int
    busy: float
    stolen: float | None
    total: float
    own: float
    processes: dict[int, tuple[str, float]]


def read_facts(root: Path = Path("/"), sleep: Callable[[float], None] = time.sleep) -> NoiseFacts:
    """Read everything that `judgement.judge` looks at; sleeps `WINDOW_S` to see what runs meanwhile."""
    limits = read_limits(root)
    return NoiseFacts(
        load_average_1min=_load_average(),
        activity=_activity(sleep),
        governors=_governors(root),
        turbo=_turbo(root),
        throttled_periods=limits.throttled_periods,
        throttled_s=limits.throttled_s,
        hypervisor=is_virtual(root),
        swap_used_bytes=_swap_used(),
    )


def _load_average() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _activity(sleep: Callable[[float], None]) -> Activity:
    before = _counters()
    started = time.perf_counter()
    sleep(WINDOW_S)
    window_s = time.perf_counter() - started
    return compare_counters(before, _counters(), window_s)


def compare_counters(before: Counters, after: Counters, window_s: float) -> Activity:
    """Return what happened between two readings `window_s` apart."""
    others = max(0.0, (after.busy - before.busy) - (after.own - before.own))
    total = after.total - before.total
    used = {
        f"{name} ({pid})": (seconds - before.processes[pid][1]) / window_s
        for pid, (name, seconds) in after.processes.items()
        if pid in before.processes
    }
    busiest = sorted(
        (name for name, cores in used.items() if cores > OTHER_CPU_CORES / 2), key=lambda name: -used[name]
    )
    steal = None
    if before.stolen is not None and after.stolen is not None and total > 0:
        steal = 100 * (after.stolen - before.stolen) / total
    return Activity(
        # As a share of what the same clock counted: its ticks are too coarse for the window's length.
        other_cpu_cores=round(before.cpus * min(1.0, others / total), 3) if total > 0 else 0.0,
        busiest=tuple(busiest[:BUSIEST]),
        steal_percent=None if steal is None else round(steal, 2),
    )


def _counters() -> Counters:
    import psutil

    times = psutil.cpu_times()
    ours = psutil.Process()
    own_ids = {ours.pid, *(child.pid for child in ours.children(recursive=True))}
    processes: dict[int, tuple[str, float]] = {}
    own = 0.0
    for process in psutil.process_iter():
        try:
            used = process.cpu_times()
            name = process.name()
        except psutil.Error:  # it ended meanwhile, or belongs to somebody else
            continue
        if process.pid in own_ids:
            own += used.user + used.system
        else:
            processes[process.pid] = (name, used.user + used.system)
    idle = times.idle + getattr(times, "iowait", 0.0)
    stolen: float | None = getattr(times, "steal", None)
    # Guests' time is in `user` already.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return Counters(os.cpu_count() or 1, total - idle - (stolen or 0.0), stolen, total, own, processes)


def _governors(root: Path) -> tuple[str, ...] | None:
    paths = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    found = {read_text(path).strip() for path in paths} - {""}
    return tuple(sorted(found)) or None


def _turbo(root: Path) -> bool | None:
    system = root / "sys/devices/system/cpu"
    switches = {"cpufreq/boost": "1", "intel_pstate/no_turbo": "0"}
    for name, on in switches.items():
        text = read_text(system / name).strip()
        if text:
            return text == on
    return None


def _swap_used() -> int | None:
    import psutil

    with warnings.catch_warnings():
        # psutil warns where the kernel counts no pages swapped in and out, which is not asked for here.
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            return int(psutil.swap_memory().used)
        except OSError:  # Windows without performance counters
            return None
