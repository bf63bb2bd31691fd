"""The limits of the control group this process is in, version 1 and 2. Standard library only.

A limit holds for everything below it, so the tightest on the way up to the root counts. In a container the path
in `/proc/self/cgroup` may be the host's: files that do not exist are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Version 1 writes "no limit" as the largest page-aligned signed 64-bit number; no machine has an exbibyte.
NO_MEMORY_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupLimits:
    """Limits in force and what they did; None where there is no limit or nothing to read.

    Attributes:
        cpu_quota: CPU seconds granted per second.
        memory_bytes: the memory limit.
        throttled_periods: scheduler periods in which the quota ran out, since the group began.
        throttled_s: time spent waiting for the next period, summed over CPUs.
    """

    cpu_quota: float | None = None
    memory_bytes: int | None = None
    throttled_periods: int | None = None
    throttled_s: float | None = None


def read_limits(root: Path) -> CgroupLimits:
    """Read the tightest limits that hold for this process; `root` is `/` but in tests."""
    quotas = [quota for folder in _folders(root, "cpu") if (quota := _cpu_quota(folder)) is not None]
    memory = [limit for folder in _folders(root, "memory") if (limit := _memory_limit(folder)) is not None]
    periods, seconds = read_throttling(root)
    return CgroupLimits(
        cpu_quota=min(quotas, default=None),
        memory_bytes=min(memory, default=None),
        throttled_periods=periods,
        throttled_s=seconds,
    )


def parse_membership(text: str) -> dict[str, str]:
    """Return the group's path by controller from `/proc/self/cgroup`; version 2 has the controller ''."""
    paths = {}
    for line in text.splitlines():
        fields = line.split(":", maxsplit=2)
        if len(fields) == 3:
            paths.update(dict.fromkeys(fields[1].split(","), fields[2]))
    return paths


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the group's folders from its own up to the mount point, whichever version has the controller."""
    membership = parse_membership(read_text(root / "proc/self/cgroup"))
    mount = root / "sys/fs/cgroup"
    if controller in membership:
        mount, path = mount / controller, membership[controller]
    else:
        path = membership.get("", "/")
    group = Path(path.lstrip("/"))
    for part in (group, *group.parents):
        # `..` is what a process sees that was moved out of its namespace's root.
        if ".." not in part.parts and (mount / part).is_dir():
            yield mount / part


def _cpu_quota(folder: Path) -> float | None:
    fields = read_text(folder / "cpu.max").split() or [
        read_text(folder / "cpu.cfs_quota_us").strip(),
        read_text(folder / "cpu.cfs_period_us").strip(),
    ]
    quota, period = _integer(fields[0]), _integer(fields[-1])
    # "max" (version 2) and -1 (version 1) mean no limit.
    return quota / period if quota is not None and period is not None and quota > 0 and period > 0 else None


def _memory_limit(folder: Path) -> int | None:
    text = read_text(folder / "memory.max") or read_text(folder / "memory.limit_in_bytes")
    limit = _integer(text.strip())
    return limit if limit is not None and limit < NO_MEMORY_LIMIT else None


def read_throttling(root: Path) -> tuple[int | None, float | None]:
    """Return throttled periods and seconds of the first folder that counts them: the group's, or what stands for it."""
    for folder in _folders(root, "cpu"):
        counters = dict(line.split(maxsplit=1) for line in read_text(folder / "cpu.stat").splitlines() if " " in line)
        periods = _integer(counters.get("nr_throttled", ""))
        if periods is None:
            continue
        microseconds = _integer(counters.get("throttled_usec", ""))
        nanoseconds = _integer(counters.get("throttled_time", ""))
        if microseconds is not None:
            return periods, microseconds / 1e6
        return periods, None if nanoseconds is None else nanoseconds / 1e9
    return None, None


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def read_text(path: Path) -> str:
    """Return a file's text, and '' where it does not exist or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
