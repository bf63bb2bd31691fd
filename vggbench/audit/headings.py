"""What a column's heading says: which quantity, in which unit. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "secs": 1.0, "seconds": 1.0}

_VARIANT = ("variant", "model", "model_name", "network", "architecture", "arch", "net", "name")
_BATCH = ("batch_size", "batch", "batchsize", "bs")
_IN_FLIGHT = ("requests_in_flight", "in_flight", "inflight", "concurrency", "streams")
_PARAMETERS = ("parameters", "params", "num_params", "param_count", "n_params", "parameter_count")
_KIND = "mean|median|avg|average|p50"
_LATENCY = re.compile(
    rf"(?:(?:(?:{_KIND})_)?(?:latency|compute|inference_time|inference|time)(?:_(?:{_KIND}|batch|request))?|{_KIND})"
    rf"(?:_(?P<unit>{'|'.join(SECONDS)}))?"
)
_THROUGHPUT = (
    *("throughput_img_s", "throughput", "images_s", "img_s", "imgs_s", "images_per_second", "images_sec", "img_sec"),
    *("fps", "samples_s", "samples_per_second", "samples_per_sec", "infer_samples_per_sec"),
)
_MACS = ("gmacs", "macs_g", "macs", "gflops", "flops_g", "flops")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table by what they are; None for what it lacks.

    Attributes:
        latency_unit: seconds in one unit of the latency's column; None where the heading names no unit.
        settings: columns that say what was measured; rows are comparable where these agree.
    """

    variant: str
    batch: str | None
    in_flight: str | None
    latency: str | None
    latency_unit: float | None
    latency_ends: tuple[str, str] | None
    throughput: str | None
    throughput_ends: tuple[str, str] | None
    parameters: str | None
    macs: str | None
    settings: tuple[str, ...]


def normalised(heading: str) -> str:
    """Return a heading in small letters, its words joined by `_`: `Latency (ms)` is `latency_ms`."""
    return re.sub(r"[^0-9a-zµ]+", "_", heading.lower().replace("#", "")).strip("_").replace("µ", "u")


def recognise(headings: Sequence[str], settings: Sequence[str]) -> Columns | None:
    """Return what the columns are, `settings` being those that no number decides; None where no column is a variant."""
    names = {normalised(heading): heading for heading in headings}
    variant = _first(names, _VARIANT)
    if variant is None:
        return None
    latency, unit = _latency(names)
    throughput = _first(names, _THROUGHPUT)
    numbers = {latency, throughput}
    return Columns(
        variant=variant,
        batch=_first(names, _BATCH),
        in_flight=_first(names, _IN_FLIGHT),
        latency=latency,
        latency_unit=unit,
        latency_ends=_ends(names, latency),
        throughput=throughput,
        throughput_ends=_ends(names, throughput),
        parameters=_first(names, (*_PARAMETERS, *(f"{name}_m" for name in _PARAMETERS))),
        macs=_first(names, _MACS),
        settings=tuple(name for name in settings if name != variant and name not in numbers),
    )


def _first(names: Mapping[str, str], wanted: Sequence[str]) -> str | None:
    return next((names[name] for name in wanted if name in names), None)


def _latency(names: Mapping[str, str]) -> tuple[str | None, float | None]:
    """Return the latency's column and unit; the first that names its unit, else the first."""
    found = [(heading, match["unit"]) for name, heading in names.items() if (match := _LATENCY.fullmatch(name))]
    with_unit = [(heading, SECONDS[unit]) for heading, unit in found if unit]
    return next(iter([*with_unit, *((heading, None) for heading, _unit in found)]), (None, None))


def _ends(names: Mapping[str, str], heading: str | None) -> tuple[str, str] | None:
    """Return the columns of an interval's ends: `latency_low_ms` and `latency_high_ms` beside `latency_ms`."""
    if heading is None:
        return None
    quantity, _, unit = normalised(heading).partition("_")
    low, high = (names.get(f"{quantity}_{end}_{unit}") for end in ("low", "high"))
    return (low, high) if low is not None and high is not None else None


def factor_of_parameters(heading: str, *, largest: float) -> float:
    """Return what one unit of a column of parameter counts stands for: a million where it says so or can be no other.

    `largest` is the column's largest number; every VGG has more than 9 million parameters.
    """
    in_millions = normalised(heading).endswith("_m") or largest < 1e5  # as a count this would be no VGG
    return 1e6 if in_millions else 1.0
