"""Plain data, as JSON has it, held against a dataclass. The standard library only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from vggbench.errors import RequestError


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


# By a field's annotation. A bool is an int to Python, and not here.
_CHECKS: Mapping[str, Callable[[object], bool]] = {
    "str": lambda value: type(value) is str,
    "int": lambda value: type(value) is int,
    "bool": lambda value: type(value) is bool,
    "int | None": lambda value: value is None or type(value) is int,
    "float | None": lambda value: value is None or _is_number(value),
    "tuple[float, ...]": lambda value: isinstance(value, list | tuple) and all(map(_is_number, value)),
}


def checked_fields(kind: type[Any], data: object, what: str, *, besides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return plain data that has exactly the fields of a dataclass, each of its type; `RequestError` if it does not.

    The fields of `besides` are somebody else's to check.
    """
    if not isinstance(data, Mapping):
        raise RequestError(f"{what}: {data!r} is not a table")
    kinds = {field.name: str(field.type) for field in fields(kind) if field.name not in besides}
    if differing := kinds.keys() ^ data.keys():
        raise RequestError(f"{what}: fields missing or unknown: {', '.join(sorted(differing))}")
    for name, expected in kinds.items():
        if not _CHECKS[expected](data[name]):
            raise RequestError(f"{what}: {name} is {data[name]!r}, not of type {expected}")
    return dict(data)
