"""How much of a device's memory a process took. The standard library, and nvidia-ml-py inside functions."""

from __future__ import annotations

import os
from dataclasses import dataclass

from vggbench.environment.gpus import asked, handle_of
from vggbench.measure.clock import DeviceTimeline


@dataclass(slots=True)
class DeviceMemory:
    """The most that was noted; None where nothing tells it.

    Attributes:
        device_memory_bytes: of the whole process, its libraries and their workspaces included, by NVML.
        device_allocated_bytes: what torch's allocator gave out; other libraries allocate by themselves.
    """

    device_memory_bytes: int | None = None
    device_allocated_bytes: int | None = None

    def note(self, device: str, slots: DeviceTimeline | None) -> None:
        """Look at a device while a session is open on it; nothing to see without slots there."""
        if slots is not None:
            self.device_memory_bytes = _larger(self.device_memory_bytes, process_memory(device))
            self.device_allocated_bytes = _larger(self.device_allocated_bytes, slots.peak_allocated_bytes())


def process_memory(device: str) -> int | None:
    """Return the bytes that this process holds on a GPU; None where NVML does not tell.

    In a container NVML may know processes by their numbers outside of it: one alone on the GPU is then this one.
    """
    handle = handle_of(device)
    if handle is None:
        return None
    import pynvml

    running = asked(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
    used = [process.usedGpuMemory for process in running if process.pid == os.getpid()]
    if not used and len(running) == 1:
        used = [running[0].usedGpuMemory]
    return used[0] if used else None  # NVML has None for it, too


def _larger(before: int | None, now: int | None) -> int | None:
    return max((value for value in (before, now) if value is not None), default=None)
