"""Plan -> profiles: what the requests of each cell spend their time on. Nothing of it is kept with the rows of a run.

Imports no backend's library and no pandas at start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vggbench.measure.rounds import profile_round
from vggbench.plan import Plan
from vggbench.preparation import prepare_all
from vggbench.results.columns import Row
from vggbench.results.layers import CellProfile, cell_profile
from vggbench.results.rows import derive_rows
from vggbench.runner import Gauge, Observer, Silent, new_info, round_request


def profile_plan(
    plan: Plan,
    exports: Path,
    *,
    backend_versions: Mapping[str, str],
    requests: int | None = None,
    observer: Observer | None = None,
    gauge: Gauge | None = None,
) -> tuple[list[Row], dict[str, CellProfile]]:
    """Profile every cell in a process of its own; returns the rows, as `verify_plan`, and the profiles by cell id."""
    watch = observer or Silent()
    kept, found = prepare_all(plan, exports, watch.preparing)
    info = replace(new_info(plan, backend_versions), prepared=kept)
    cells = [cell for cell in plan.cells if cell.id in found]
    if gauge and cells:
        watch.gauging()
    ceilings = gauge(plan) if gauge and cells else ()
    records, profiles = [], {}
    for done, cell in enumerate(cells):
        watch.measuring(cell, done, len(cells))
        record, profile = profile_round(round_request(info, cell, 0, found[cell.id]), requests)
        watch.measured(cell, record)
        if profile is not None:
            macs = sum(macs for macs, _weights in found[cell.id].works)
            plain_ns = record.sessions[0].samples("compute")[0]
            profiles[cell.id] = cell_profile(cell, macs, plain_ns, profile, ceilings)
        # Rows are of timed rounds: what was timed beside a profile is none of their figures.
        records.append(replace(record, sessions=tuple(replace(session, blocks=()) for session in record.sessions)))
    return derive_rows(info, records), profiles
