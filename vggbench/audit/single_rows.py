"""What must hold between the figures of one row: ends about their estimate, percentiles in order, possible shares.

Standard library only.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from vggbench.audit.comparison import Comparison
from vggbench.audit.figures import ASSUMED_DOUBT
from vggbench.audit.table import Entry

APART_DOUBT = 0.10  # two figures of a row are measured one after the other, on a machine that moves meanwhile
ROUNDING = 1e-9  # of a cosine, beyond 1
_LOW_END = re.compile(r"(?P<quantity>[a-z0-9_]+?)_low(?P<unit>_[a-z0-9_]+)?")
_PLACE = re.compile(r"(?:latency_)?(?P<place>min|max|p\d{1,2}(?:_\d+)?)(?:_latency)?(?P<unit>_(?:ns|us|ms|s))")
# Figures that have limits whatever was measured.
_LIMITS: Mapping[str, tuple[float, float]] = {
    "parity_cosine": (-1 - ROUNDING, 1 + ROUNDING),
    "top1_agreement": (0.0, 1.0),
    "top5_agreement": (0.0, 1.0),
    "parity_error": (0.0, float("inf")),
    "speedup": (0.0, float("inf")),
}


def ends_enclose(entries: Sequence[Entry]) -> Iterator[Comparison]:
    """Hold that an interval's ends are in order and about their estimate: `X_low_ms` <= `X_ms` <= `X_high_ms`."""
    for entry in entries:
        for name, low in entry.numbers.items():
            end = _LOW_END.fullmatch(name)
            if end is None:
                continue
            quantity, unit = end["quantity"], end["unit"] or ""
            high, value = entry.numbers.get(f"{quantity}_high{unit}"), entry.numbers.get(f"{quantity}{unit}")
            if high is not None and value is not None:
                text = f"has {quantity}{unit} {value:g} outside its own interval, {low:g} to {high:g}"
                yield Comparison("interval", (entry,), "" if low <= value <= high else text)


def percentiles_rise(entries: Sequence[Entry]) -> Iterator[Comparison]:
    """Hold that minimum, percentiles and maximum of a latency do not fall."""
    for entry in entries:
        for places in _places(entry).values():
            for (share, lower), (larger_share, upper) in pairwise(sorted(places.items())):
                falls = upper < lower * (1 - ASSUMED_DOUBT)
                text = f"has {upper:g} at {larger_share:g} % of its requests, and {lower:g} at {share:g} % already"
                yield Comparison("percentiles", (entry,), text if falls else "")


def end_to_end_takes_longer(entries: Sequence[Entry]) -> Iterator[Comparison]:
    """Hold that a request with its copies takes no less time than without them."""
    for entry in entries:
        whole = entry.numbers.get("end_to_end_ms")
        if whole is not None and entry.latency is not None:
            low_ms = 1e3 * entry.latency.low
            text = f"takes {whole:g} ms from end to end, and {1e3 * entry.latency.value:g} ms within"
            yield Comparison("end to end", (entry,), text if whole < low_ms * (1 - APART_DOUBT) else "")


def figures_keep_limits(entries: Sequence[Entry]) -> Iterator[Comparison]:
    """Hold shares, cosines and errors between the limits that such a figure has."""
    for entry in entries:
        for name, (low, high) in _LIMITS.items():
            value = entry.numbers.get(name)
            if value is not None:
                text = f"has {name} {value:g}, which cannot be"
                yield Comparison("limits", (entry,), "" if low <= value <= high else text)


def speedups_agree(entries: Sequence[Entry]) -> Iterator[Comparison]:
    """Hold that the rows of one network, batch and machine say by speed-up x latency the same of what they are held to.

    Only where the table is of ours: others may have a baseline for each precision.
    """
    groups: dict[object, list[Entry]] = defaultdict(list)
    for entry in entries:
        cells = entry.cells
        if cells.get("spec_hash") and cells.get("speedup") and entry.latency:
            where = ("spec_hash", "batch_size", "threads", "device_name", "started_at", "replica")
            groups[tuple(cells.get(name) for name in where)].append(entry)
    for group in groups.values():
        for one, other in pairwise(group):
            yield from _same_baseline(one, other)


def _same_baseline(one: Entry, other: Entry) -> Iterator[Comparison]:
    held_to = [entry.numbers.get("speedup", 0.0) * entry.latency.value for entry in (one, other) if entry.latency]
    if len(held_to) == 2 and min(held_to) > 0:
        apart = max(held_to) / min(held_to) - 1 > ASSUMED_DOUBT
        text = f"is held to {1e3 * held_to[1]:.4g} ms by its speed-up, {one.title} to {1e3 * held_to[0]:.4g} ms"
        yield Comparison("speed-up", (other, one), text if apart else "")


def _places(entry: Entry) -> Mapping[str, dict[float, float]]:
    """Return a row's latencies by unit, and there by the percent of the requests that are below them."""
    found: dict[str, dict[float, float]] = defaultdict(dict)
    for name, value in entry.numbers.items():
        place = _PLACE.fullmatch(name)
        if place is not None:
            found[place["unit"]][_percent(place["place"])] = value
    return found


def _percent(place: str) -> float:
    ends = {"min": 0.0, "max": 100.0}
    return ends[place] if place in ends else float(place.removeprefix("p").replace("_", "."))
