"""Effects of gates that never took place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vggbench.gate.records import CellEffects, Rule

RULE = Rule()
QUIET = (0.004, -0.003, 0.002, -0.004, 0.001, -0.002, 0.003)  # log(head / base) of seven rounds
AGAIN = (*QUIET, -0.001)  # and of eight
IDENTITY = {"variant": "vgg11", "backend": "torch", "precision": "fp32", "batch_size": 1}


def as_rounds(effects: Sequence[float]) -> tuple[tuple[float, ...], ...]:
    """Return rounds of three pairs of blocks whose median is the effect."""
    return tuple((effect - 0.02, effect, effect + 0.01) for effect in effects)


def effects(name: str = "a", by: float = 0.0, again: float | None = None, **changes: Any) -> CellEffects:
    """Return a quiet cell that is slower by `by`, and by `again` when it is confirmed."""
    values: dict[str, Any] = {
        "cell_id": name,
        "title": f"vgg11 torch {name}",
        "identity": IDENTITY,
        "rounds": as_rounds([effect + by for effect in QUIET]),
        "confirmation": () if again is None else as_rounds([effect + again for effect in AGAIN]),
        "base_ms": 10.0,
        "head_ms": 10.0 * (1 + by),
    }
    return CellEffects(**{**values, **changes})
