"""Which cells a paired gate has: those of either side, and why a side has not one that the other has.

No torch, no onnx, no backend's library: backends are probed in workers of each side.
"""

from __future__ import annotations

from dataclasses import replace

from vggbench.gate.environments import SIDES, Starters
from vggbench.gate.records import Side
from vggbench.measure.client import BackendProbe, probe
from vggbench.plan import Cell


def either(base: BackendProbe, head: BackendProbe) -> BackendProbe:
    """Return what is known of a backend that is asked for on two sides: it is there if one of them has it."""
    if not base.available or not head.available:
        return head if head.available else base
    both = {name: reason and head.precisions.get(name, reason) for name, reason in base.precisions.items()}
    return replace(base, precisions=both)


class BothSides:
    """Probes a backend on both sides, once each, and remembers what it was told."""

    def __init__(self, starters: Starters) -> None:
        self._starters = starters
        self._known: dict[tuple[str, str], dict[Side, BackendProbe]] = {}

    def __call__(self, name: str, device: str) -> BackendProbe:
        """Return what is known of a backend on either side."""
        if (name, device) not in self._known:
            self._known[name, device] = {side: probe(name, device, self._starters[side]) for side in SIDES}
        found = self._known[name, device]
        return either(found["base"], found["head"])

    def lack(self, cell: Cell) -> dict[Side, str]:
        """Return for each side that cannot run the cell why it cannot; empty where both can, or neither."""
        found = {side: _lack(cell, self._known[cell.backend, cell.device][side]) for side in SIDES}
        return {} if all(found.values()) else {side: reason for side, reason in found.items() if reason}


def _lack(cell: Cell, known: BackendProbe) -> str:
    if not known.available:
        return known.reason
    return known.precisions.get(cell.precision, f"{cell.backend} does not know {cell.precision}")
