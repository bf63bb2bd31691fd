"""Profiles as a table of texts, as JSON data and as CSV. The standard library only."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from vggbench.report.table import significant
from vggbench.results.columns import Row
from vggbench.results.layers import LAYER, OTHER, CellProfile, LayerRow

HEADINGS = ("layer", "operation", "ms", "%", "GFLOP/s", "% att.", "MiB", "bound by")
_LONGEST_NAME = 24  # characters that keep a table within 100 columns
# What says which cell a line is of, when lines of several are in one table.
REQUEST_COLUMNS = (
    *("requests", "request_ms", "profiled_request_ms", "profiler_percent"),
    *("ceiling_gflop_s", "ceiling_gb_s"),
)
CELL_COLUMNS = ("variant", "backend", "options", "precision", "device", "batch_size", "threads", "status", "cell_id")


def profile_lines(profile: CellProfile) -> list[tuple[str, ...]]:
    """Return the texts under `HEADINGS`: every layer with MACs, other operations added up by kind, and the rest."""
    layers = [row for row in profile.layers if row.part == LAYER]
    lines = [_line(row.layer, row.operation, row.time_ms, row.share_percent, row) for row in layers]
    kinds = dict.fromkeys(row.operation for row in profile.layers if row.part == OTHER)
    for kind in kinds:
        rows = [row for row in profile.layers if row.part == OTHER and row.operation == kind]
        alone = len(rows) == 1 and len(rows[0].layer) <= _LONGEST_NAME
        name = rows[0].layer if alone else f"{len(rows)} other{'s' if len(rows) > 1 else ''}"
        lines.append(_line(name, kind, sum(row.time_ms for row in rows), sum(row.share_percent for row in rows)))
    outside = profile.layers[-1]
    return [*lines, _line(outside.layer, "", outside.time_ms, outside.share_percent)]


def _line(name: str, operation: str, time_ms: float, share: float, row: LayerRow | None = None) -> tuple[str, ...]:
    percent = row.percent_of_attainable if row else None
    return (
        name,
        operation,
        significant(time_ms) if time_ms > 0 else f"{time_ms:.2f}",
        f"{share:.1f}",
        significant(row.gflop_s) if row else "",
        f"{percent:.0f}" if percent is not None else "",
        significant(row.least_mib) if row else "",
        (row.bound_by or "") if row else "",
    )


def profile_remarks(profile: CellProfile) -> list[str]:
    """Return what has to be known to read the table."""
    plain, profiled = significant(profile.request_ms), significant(profile.profiled_request_ms)
    change = f"{abs(profile.profiler_percent):.1f} % {'slower' if profile.profiler_percent >= 0 else 'faster'}"
    remarks = [
        f"{profile.requests} requests: {profiled} ms each profiled, shared out here; {plain} ms otherwise ({change})."
    ]
    if profile.ceiling_gflop_s and profile.ceiling_gb_s:
        rates = f"{significant(profile.ceiling_gflop_s)} GFLOP/s and {significant(profile.ceiling_gb_s)} GB/s"
        remarks.append(f"% att.: of what is attainable on this machine, at {rates}.")
    if profile.unassigned:
        remarks.append(f"Nothing in the profile tells which operation is {', '.join(profile.unassigned)}.")
    if not profile.macs_agree:
        remarks.append("The backend's shapes are not the file's (it pads), so that no layer's FLOPs are known.")
    return remarks


def profile_document(row: Row, profile: CellProfile | None) -> dict[str, Any]:
    """Return a cell's profile as plain data; without one, the fields that say why."""
    cell = {name: getattr(row, name) for name in (*CELL_COLUMNS, "reasons", "backend_version", "artefact_sha256")}
    return {**cell, **(asdict(profile) if profile else {"layers": []})}


def profile_csv(profiled: Sequence[Row], profiles: Mapping[str, CellProfile]) -> bytes:
    """Return a line an operation, each with its cell and its cell's request times; missing is empty."""
    text = io.StringIO()
    own = [field.name for field in fields(LayerRow)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*CELL_COLUMNS, *own, *REQUEST_COLUMNS])
    for row in profiled:
        profile = profiles.get(row.cell_id or "")
        for layer in profile.layers if profile else ():
            shared = [getattr(row, name) for name in CELL_COLUMNS], [getattr(profile, name) for name in REQUEST_COLUMNS]
            writer.writerow([*shared[0], *(getattr(layer, name) for name in own), *shared[1]])
    return text.getvalue().encode()
