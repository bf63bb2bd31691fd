"""What an image costs in energy, where the device has a counter of it. No torch, no pandas.

A throughput block is observed from before its first request to after its last, and its images are counted in a window
inside: the mean power of the observation, times the window, is the energy of those images. Idle power is what the
device drew before the run; what an image costs above it is a column of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vggbench.measure.latency import Block
from vggbench.measure.records import RoundRecord
from vggbench.stats import hodges_lehmann

LEAST_SECONDS = 1.0  # NVML's counter moves every 20 to 100 ms: a tenth of this at the most


def energy(finished: Sequence[RoundRecord], device: str, idle_power_w: float | None) -> dict[str, Any]:
    """Return the columns of energy; where they are empty, `energy_note` says why."""
    blocks = [
        block
        for record in finished
        for session in record.sessions
        for block in session.blocks
        if block.kind == "throughput"
    ]
    if not blocks:
        return {}
    powers = [power for block in blocks if (power := _power(block)) is not None]
    if len(powers) < len(blocks):
        return {"energy_note": _why_not(blocks, device)}
    costs = [_seconds_an_image(block) for block in blocks]
    above = [max(power - (idle_power_w or 0), 0) for power in powers]
    return {
        "power_w": hodges_lehmann(powers),
        "idle_power_w": idle_power_w,
        "energy_j_per_image": hodges_lehmann([power * cost for power, cost in zip(powers, costs, strict=True)]),
        "energy_above_idle_j_per_image": None
        if idle_power_w is None
        else hodges_lehmann([power * cost for power, cost in zip(above, costs, strict=True)]),
    }


def _power(block: Block) -> float | None:
    """Return the mean power in W while the block was observed; None without a counter or over too short a time."""
    seen = block.conditions
    if seen is None or seen.energy_j is None or seen.wall_s < LEAST_SECONDS:
        return None
    return seen.energy_j / seen.wall_s


def _seconds_an_image(block: Block) -> float:
    return block.samples_ns[0] / 1e9 / block.images


def _why_not(blocks: Sequence[Block], device: str) -> str:
    if any(block.conditions and block.conditions.energy_j is not None for block in blocks):
        return f"windows under {LEAST_SECONDS:g} s are too short for the counter; give more --time-budget-s"
    return f"{device} has no energy counter that can be read"
