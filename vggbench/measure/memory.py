"""How much memory a process and its children held at most. Standard library only."""

from __future__ import annotations

import sys
from pathlib import Path

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB elsewhere
_KIB = 1024  # the kernel writes kB for it


def peak_memory(root: Path = Path("/proc")) -> int | None:
    """Return this process's peak resident memory in bytes.

    Linux's `getrusage` keeps the peak of the process that started this one, over `exec`; `VmHWM` does not.
    """
    if (root / "self/status").exists():
        return _high_water_mark(root / "self/status")
    try:
        import resource
    except ImportError:  # Windows
        return None
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * _MAXRSS_UNIT


def tree_peak_memory(root: Path = Path("/proc")) -> int | None:
    """Return the peak of this process and those below it that still live, in bytes: the sum of each one's own peak.

    Of a child that has ended, the system's account would include what its parent held when it was forked.
    """
    own = peak_memory(root)
    if own is None:
        return None
    return own + sum(_high_water_mark(root / pid / "status") for pid in _descendants(root))


def _descendants(root: Path) -> list[str]:
    """Return the processes below this one, where the kernel lists them."""
    found: list[str] = []
    waiting = ["self"]
    while waiting:
        for task in (root / waiting.pop() / "task").glob("*/children"):
            try:
                children = task.read_text().split()
            except OSError:  # it has ended meanwhile
                continue
            found += children
            waiting += children
    return found


def _high_water_mark(status: Path) -> int:
    """Return `VmHWM` in bytes; 0 for a process that has ended, which keeps none."""
    try:
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    except OSError:
        return 0
    return int(lines["VmHWM"].split()[0]) * _KIB if "VmHWM" in lines else 0
