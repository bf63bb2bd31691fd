"""What else went on while a block was timed: counters read at its edges, never between its samples.

The standard library only. Linux is read from /proc and /sys; elsewhere most of it is None, which is "not known here".
A reading takes well under a millisecond.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from vggbench.environment.cgroup import read_text, read_throttling
from vggbench.environment.cpu import affinity, physical_cores
from vggbench.measure.gpu_state import GpuState, read_energy_j, read_gpu

_ROOT = Path("/")
_STEAL = 7  # in a `cpu` line of /proc/stat (proc_stat(5)): user nice system idle iowait irq softirq steal
_BUSY = (0, 1, 2, 5, 6)  # guests' time is in `user` already
_USER, _SYSTEM = 11, 12  # behind the name in /proc/PID/stat (proc_pid_stat(5)), whose fields 14 and 15 they are


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What happened from just before a block's first request to just after its last.

    Attributes:
        wall_s: length of that time.
        cpus: how many CPUs the worker was allowed.
        own_cpu_s: CPU time of the worker, all threads.
        parent_cpu_s: CPU time of the process that started it.
        busy_s: CPU time of everything on the worker's cores, their other hardware threads included.
        machine_busy_s: CPU time of everything on all CPUs.
        steal_s: time that a hypervisor kept the worker's cores for other guests.
        throttled_periods, throttled_s: periods in which the control group's CPU quota ran out; time waited then.
        involuntary_switches: times that a thread of the worker had to give way to another.
        energy_j: what the device used, where it has a counter.
        clock_mhz, lowest_clock_mhz: clock of the worker's CPUs right after the block: median and lowest.
        gpu: the GPU right after the block.
        gpu_before: the same right before it; None in older journals.
    """

    wall_s: float
    cpus: int
    own_cpu_s: float
    parent_cpu_s: float | None = None
    busy_s: float | None = None
    machine_busy_s: float | None = None
    steal_s: float | None = None
    throttled_periods: int | None = None
    throttled_s: float | None = None
    involuntary_switches: int | None = None
    energy_j: float | None = None
    clock_mhz: float | None = None
    lowest_clock_mhz: float | None = None
    gpu: GpuState | None = None
    gpu_before: GpuState | None = None


class Window:
    """What `observed` fills in when its block is over."""

    conditions: Conditions | None = None


@contextmanager
def observed(device: str, root: Path = _ROOT) -> Iterator[Window]:
    """Read the counters before and after; the difference is in the window afterwards."""
    window = Window()
    watch = _Watch(device, root)
    gpu_before = read_gpu(device)
    before = watch.read()
    yield window
    after = watch.read()
    window.conditions = watch.between(before, after, gpu_before)


class _Watch:
    """Reads counters that only grow, by the names that their differences have in `Conditions`."""

    def __init__(self, device: str, root: Path) -> None:
        self._device, self._root = device, root
        self._cpus = affinity()
        cores = physical_cores(self._cpus, root)
        self._watched = self._cpus.union(*cores.values())
        self._parent = root / f"proc/{os.getppid()}/stat"

    def read(self) -> dict[str, float | None]:
        """Return seconds and counts; None for what cannot be read here."""
        lines = _cpu_times(read_text(self._root / "proc/stat"))
        ours = [times for cpu, times in lines.items() if cpu in self._watched]
        periods, throttled_s = read_throttling(self._root)
        return {
            "parent_cpu_s": _process_time(read_text(self._parent)),
            "busy_s": sum(map(_busy, ours)) if ours else None,
            "machine_busy_s": sum(map(_busy, lines.values())) if lines else None,
            "steal_s": sum(times[_STEAL] for times in ours) if ours else None,
            "throttled_periods": periods,
            "throttled_s": throttled_s,
            "involuntary_switches": _involuntary_switches(),
            "energy_j": read_energy_j(self._device),
            "own_cpu_s": time.process_time(),
            "wall_s": time.perf_counter(),
        }

    def between(
        self, before: dict[str, float | None], after: dict[str, float | None], gpu_before: GpuState | None
    ) -> Conditions:
        """Return how far the counters got, and the clocks of this moment."""
        grown: dict[str, Any] = {name: _difference(before[name], after[name]) for name in before}
        clocks = _clocks(self._cpus, self._root)
        return Conditions(
            **grown,
            cpus=len(self._cpus),
            clock_mhz=median(clocks) if clocks else None,
            lowest_clock_mhz=min(clocks, default=None),
            gpu=read_gpu(self._device),
            gpu_before=gpu_before,
        )


def _difference(before: float | None, after: float | None) -> float | None:
    """Return how far a counter got; one that ran backwards, as the kernel's count of stolen time may, tells nothing."""
    return None if before is None or after is None or after < before else after - before


def _cpu_times(text: str) -> dict[int, tuple[float, ...]]:
    """Return the seconds in each state by CPU from `/proc/stat`; lines that are none are passed over."""
    times = {}
    for line in text.splitlines():
        name, *fields = line.split()
        if name[:3] == "cpu" and name[3:].isdecimal() and len(fields) > _STEAL:
            times[int(name[3:])] = tuple(int(field) / _ticks() for field in fields)
    return times


def _busy(times: tuple[float, ...]) -> float:
    return sum(times[state] for state in _BUSY)


def _process_time(text: str) -> float | None:
    """Return a process's CPU seconds from its `/proc/PID/stat`; its name may hold spaces and brackets."""
    fields = text.rpartition(")")[2].split()
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / _ticks() if len(fields) > _SYSTEM else None


def _ticks() -> int:
    return os.sysconf("SC_CLK_TCK")


def _involuntary_switches() -> int | None:
    """Count those of all threads, also of those that have ended, as the sum over /proc/self/task would not."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _clocks(cpus: frozenset[int], root: Path) -> list[float]:
    """Return the clock of each CPU in MHz, where the system tells it."""
    folder = root / "sys/devices/system/cpu"
    texts = [read_text(folder / f"cpu{cpu}/cpufreq/scaling_cur_freq").strip() for cpu in sorted(cpus)]
    in_khz = [int(text) / 1000 for text in texts if text.isdecimal()]
    return in_khz or _clocks_of_cpuinfo(read_text(root / "proc/cpuinfo"), cpus)


def _clocks_of_cpuinfo(text: str, cpus: frozenset[int]) -> list[float]:
    clocks, cpu = [], -1
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "processor" and value.isdecimal():
            cpu = int(value)
        elif key == "cpu MHz" and cpu in cpus:
            clocks.append(float(value))
    return clocks
