"""Whether the numbers in stored records can be numbers of a measurement. The standard library only."""

from __future__ import annotations

from typing import Any

_SIGNED = frozenset({"cosine", "snr_db"})  # all others are times, sizes, counts, shares and distances
_LARGEST = 2**63 - 1  # what a column of integers holds
_WITHOUT_NUMBERS = (str, bool, type(None))  # most of a record: passed over, for they take most of the time


def check_numbers(data: object, where: str = "") -> None:
    """Raise `ValueError` at the first number in JSON data that is not finite, too large, or negative without reason."""
    if isinstance(data, dict):
        for name, item in data.items():
            if not isinstance(item, _WITHOUT_NUMBERS):
                check_numbers(item, f"{where}.{name}" if where else name)
    elif isinstance(data, list):
        if _is_plain(data):
            return
        for index, item in enumerate(data):
            check_numbers(item, f"{where}.{index}")
    elif isinstance(data, int | float):
        _check_number(data, where)


def _is_plain(numbers: list[Any]) -> bool:
    """Say at once of a list of whole numbers, as a block of samples is, that none of them is wrong."""
    return set(map(type, numbers)) == {int} and min(numbers) >= 0 and max(numbers) <= _LARGEST


def _check_number(value: float, where: str) -> None:
    if not abs(value) <= _LARGEST:  # nor is NaN; an integer may be larger than any float
        raise ValueError(f"{where}: {value} is no number of a measurement")
    if value < 0 and where.rpartition(".")[2] not in _SIGNED:
        raise ValueError(f"{where}: {value} is negative")
