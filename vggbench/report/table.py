"""The table a reader asks for first, as texts: which columns, in which order, to how many digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from vggbench.artefacts.onnx_form import KEEP_FP32
from vggbench.measure.validity import STATUSES, is_of_what_was_asked
from vggbench.results.columns import Row

HEADINGS = (
    "variant",
    "backend",
    "precision",
    "batch",
    "latency ms",
    "end to end ms",
    "images/s",
    "speed-up",
    "error",
    "status",
)


def best_first(rows: Sequence[Row]) -> list[Row]:
    """Return the rows by time an image, fastest first; rows whose time is of something else than asked come last."""
    return sorted(rows, key=_rank)


def _rank(row: Row) -> tuple[str, str, int, str, bool, float, int]:
    time = math.inf if row.latency_ms is None or not row.batch_size else row.latency_ms / row.batch_size
    # Rows of different models are not comparable: each model has its own part of the table.
    model = row.variant or "", row.configuration or "", row.input_size or 0, row.spec_hash or ""
    return *model, not is_of_what_was_asked(row.status), time, -STATUSES.index(row.status or "ok")


def row_title(row: Row) -> str:
    """Return the row's name in a sentence."""
    variant, backend, precision, batch = table_cells(row)[:4]
    return f"{variant} {backend} {precision} batch {batch}"


def precision_text(row: Row) -> str:
    """Return the precision with the layers that were kept out of it, which tell two rows apart."""
    kept = [option for option in (row.export_options or "").split() if option.startswith(KEEP_FP32)]
    return " ".join([row.precision or "", *kept])


def table_cells(row: Row) -> tuple[str, ...]:
    """Return the row's texts under `HEADINGS`; missing is empty."""
    backend = row.backend or ""
    options = [option for option in (row.options or "").split() if option not in _UNREMARKABLE]
    return (
        row.variant or "",
        " ".join([backend, *options, *([f"replica={row.replica}"] if row.replica else [])]),
        precision_text(row),
        str(row.batch_size),
        with_interval(row.latency_ms, row.latency_low_ms, row.latency_high_ms),
        significant(row.end_to_end_ms),
        with_interval(row.throughput_img_s, row.throughput_low_img_s, row.throughput_high_img_s),
        f"{row.speedup:.2f}x" if row.speedup is not None else "",
        f"{row.parity_error:.1e}" if row.parity_error is not None else "",
        row.status or "",
    )


_UNREMARKABLE = {"memory_format=contiguous"}
_ROUNDING_STEPS = 1e-6  # of the last digit: what binary fractions add to a number that is exact in decimal


def significant(value: float | None, digits: int = 3) -> str:
    """Return a number to so many significant digits, never in exponent form."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Return `44.7 ± 0.6`, to the digits that the interval supports; without an interval the value to three digits.

    The half-width shown is the distance from the value shown to the end further away. Where one end is over twice as
    far as the other, both are shown: `107 (97 to 226)`. Either is rounded outwards: no interval is understated.
    """
    if value is None or low is None or high is None:
        return significant(value)
    near, half = sorted((value - low, high - value))
    if half <= 0:
        return significant(value)
    decimals = max(0, -math.floor(math.log10(half)))
    if half > 2 * near:
        return (
            f"{value:.{decimals}f} ({_outwards(low, math.floor, decimals)} to {_outwards(high, math.ceil, decimals)})"
        )
    shown = round(value, decimals)
    return f"{shown:.{decimals}f} ± {_outwards(max(high - shown, shown - low), math.ceil, decimals)}"


def _outwards(end: float, rounded: Callable[[float], int], decimals: int) -> str:
    """Return an end of an interval, rounded away from the interval's inside."""
    nearest = round(end, decimals)
    exact = abs(end - nearest) * 10**decimals < _ROUNDING_STEPS
    return f"{nearest if exact else rounded(end * 10**decimals) / 10**decimals:.{decimals}f}"
