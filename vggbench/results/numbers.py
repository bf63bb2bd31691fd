"""Whether the numbers in stored records can be numbers of a measurement. The standard library only."""

from __future__ import annotations

from collections.abc import Mapping

_SIGNED = frozenset({"cosine", "snr_db"})  # all others are times, sizes, counts, shares and distances
_LARGEST = 2**63 - 1  # what a column of integers holds


def check_numbers(data: object, where: str = "") -> None:
    """Raise `ValueError` at the first number in JSON data that is not finite, too large, or negative without reason."""
    if isinstance(data, Mapping):
        for name, item in data.items():
            check_numbers(item, f"{where}.{name}".removeprefix("."))
    elif isinstance(data, list):
        for index, item in enumerate(data):
            check_numbers(item, f"{where}.{index}")
    elif isinstance(data, int | float):
        _check_number(data, where)


def _check_number(value: float, where: str) -> None:
    if not abs(value) <= _LARGEST:  # nor is NaN; an integer may be larger than any float
        raise ValueError(f"{where}: {value} is no number of a measurement")
    if value < 0 and where.rpartition(".")[2] not in _SIGNED:
        raise ValueError(f"{where}: {value} is negative")
