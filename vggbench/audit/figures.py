"""A number as it stands in a table's cell: `44.7`, `44.7 ± 0.6`, `107 (97 to 226)`, `138.4M`. Standard library only."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

# A figure without an interval is believed to this much: two runs of one thing on a shared machine differ by more.
ASSUMED_DOUBT = 0.03

_NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?"
_CELL = re.compile(
    rf"[~≈<>]?\s*(?P<value>{_NUMBER})\s*(?P<scale>[kKMGB](?![a-z]))?"
    rf"(?:\s*(?:±|\+/-)\s*(?P<half>{_NUMBER})|\s*\((?P<low>{_NUMBER})\s*(?:to|[-,\u2013])\s*(?P<high>{_NUMBER})\))?"
    r"\s*(?:x|%|ms|us|µs|ns|s|images?/s|img/s|fps)?",
)
_SCALES = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, the ends between which it is believed to lie, and half a unit of its last digit, all in one unit."""

    value: float
    low: float
    high: float
    half_digit: float

    def scaled(self, factor: float) -> Figure:
        """Return the figure in another unit."""
        return Figure(self.value * factor, self.low * factor, self.high * factor, self.half_digit * factor)

    def within(self, low: float, high: float) -> Figure:
        """Return the figure with ends that another column gives."""
        return Figure(self.value, low, high, self.half_digit)


def read_figure(text: str) -> Figure | None:
    """Return the figure in a cell; None for a cell without one (`OOM`, `n/a`, `-`) or with one that is not finite."""
    found = _CELL.fullmatch(text.strip())
    if found is None or not any(character.isdigit() for character in found["value"]):
        return None
    scale = _SCALES.get(found["scale"] or "", 1.0)
    value = _plain(found["value"]) * scale
    if not math.isfinite(value):
        return None
    low, high = _ends(found, value, scale)
    return Figure(value, low, high, scale * _half_digit(found["value"]))


def _ends(found: re.Match[str], value: float, scale: float) -> tuple[float, float]:
    if found["half"] and found["half"].strip("+-"):
        half = abs(_plain(found["half"]) * scale)
        return value - half, value + half
    if found["low"] and found["high"]:
        return _plain(found["low"]) * scale, _plain(found["high"]) * scale
    doubt = max(ASSUMED_DOUBT * abs(value), scale * _half_digit(found["value"]))
    return value - doubt, value + doubt


def _plain(text: str) -> float:
    return float(text.replace(",", ""))


def _half_digit(text: str) -> float:
    """Return half a unit of the last digit that is written down."""
    mantissa, _, exponent = text.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    return float(0.5 * 10.0 ** (int(exponent or 0) - decimals))
