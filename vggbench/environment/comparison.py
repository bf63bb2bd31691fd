"""Whether two environments are alike, from their JSON: a stored run's machine need not be this one.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# Parts that identify an environment; noise belongs to the moment, not to the machine.
IDENTITY = ("hardware", "system", "libraries", "variables", "commit")
# Changes from second to second.
MOMENTARY = frozenset({"hardware.memory_available_bytes"})
# The kernel keeps a little more or less for itself at every boot; a memory module is far more than 1 %.
SAME_MEMORY = 0.01


def comparable(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return where two environments (`Environment.to_json`) differ: both values by dotted name; empty if alike."""
    left, right = dict(_flat(a)), dict(_flat(b))
    pairs = {name: (left.get(name), right.get(name)) for name in sorted(left.keys() | right.keys())}
    return {name: pair for name, pair in pairs.items() if not _alike(name, *pair)}


def _flat(environment: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for part in IDENTITY:
        value = environment.get(part)
        if isinstance(value, Mapping):
            yield from ((f"{part}.{name}", item) for name, item in value.items() if f"{part}.{name}" not in MOMENTARY)
        else:
            yield part, value


def _alike(name: str, a: object, b: object) -> bool:
    if name == "hardware.memory_total_bytes" and isinstance(a, int) and isinstance(b, int):
        return abs(a - b) <= SAME_MEMORY * max(a, b)
    return a == b
