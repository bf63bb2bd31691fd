"""What a GPU says of its clocks while it is measured, by NVML. The standard library, and nvidia-ml-py inside functions.

Where the library or a GPU is missing, nothing is known, which is no error.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from vggbench.environment.gpus import asked, handle_of

# Bits of `nvmlDeviceGetCurrentClocksEventReasons`, as nvml.h names them, that mean "slower than it could be". Left
# out are idle (1), clocks that the user has set (2, 100) and those that follow another GPU (10).
SLOWDOWNS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}

IDLE_SECONDS = 2.0  # the counter moves every 20 to 100 ms: an error of 5 % at the most


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuState:
    """A GPU at one moment; None is what it does not tell.

    Attributes:
        slowdowns: what holds its clocks down at that moment, of `SLOWDOWNS`.
    """

    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    power_w: float | None
    temperature_c: int | None
    slowdowns: tuple[str, ...] | None


def read_gpu(device: str) -> GpuState | None:
    """Return the state of `cuda` or `cuda:1`; None for another device, or where NVML is not there."""
    handle = handle_of(device)
    if handle is None:
        return None
    import pynvml

    power_mw = asked(pynvml.nvmlDeviceGetPowerUsage, handle)
    reasons = asked(pynvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
    return GpuState(
        sm_clock_mhz=asked(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM),
        memory_clock_mhz=asked(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_MEM),
        power_w=None if power_mw is None else power_mw / 1000,
        temperature_c=asked(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        slowdowns=None if reasons is None else tuple(name for bit, name in SLOWDOWNS.items() if reasons & bit),
    )


def read_energy_j(device: str) -> float | None:
    """Return the joules that a GPU has used since its driver was loaded; None for another device or without NVML."""
    handle = handle_of(device)
    if handle is None:
        return None
    import pynvml

    used_mj = asked(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle)
    return None if used_mj is None else used_mj / 1000


def idle_power_w(device: str) -> float | None:
    """Return the mean power in W over two seconds in which nothing is asked of the device; None without a counter."""
    before = read_energy_j(device)
    if before is None:
        return None
    start = time.perf_counter()
    time.sleep(IDLE_SECONDS)
    after = read_energy_j(device)
    return None if after is None else (after - before) / (time.perf_counter() - start)
