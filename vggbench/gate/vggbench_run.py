"""A run's folder as a stored run. No torch, no pandas: the figures that no comparison asks for are not derived."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vggbench.gate.records import identity_of
from vggbench.gate.stored import StoredCell, StoredRun
from vggbench.measure.disturbance import judge_disturbance
from vggbench.measure.records import FAILURES, RoundRecord
from vggbench.measure.validity import Finding
from vggbench.plan import DEFAULT_ROUNDS, Cell
from vggbench.results.conditions import disturbance_of
from vggbench.results.figures import launch_figure_ms, launches
from vggbench.results.findings import proof_findings
from vggbench.results.journal import read_rounds
from vggbench.results.run_info import Prepared, RunInfo, read_run_info
from vggbench.stats import hodges_lehmann

# By what a figure may be wrong without a sign of it in its scatter. What makes a figure merely uncertain is not among
# these: how much two runs differ is seen in the runs.
_MISLEADING = ("precision_mismatch", "fallback", "throttled", "contended", "unsteady")


def read_run(folder: Path) -> StoredRun:
    """Return the run in the folder; `RunFolderError` for one that cannot be read."""
    info = read_run_info(folder)
    records: dict[str, list[RoundRecord]] = {cell.id: [] for cell in info.plan.cells}
    for record in read_rounds(folder, info.plan):
        records[record.cell_id].append(record)
    measured = [cell for cell in info.plan.cells if not cell.unsupported]
    return StoredRun(
        name=str(folder),
        tool="vggbench",
        environment=info.environment,
        facts=_facts(info),
        cells={cell.id: _stored(info, cell, records[cell.id]) for cell in measured},
    )


def _facts(info: RunInfo) -> dict[str, object]:
    return {
        "device_name": info.device_name,
        "plan.round_seconds": info.plan.round_seconds,
        **{f"backends.{name}": version for name, version in info.backend_versions.items()},
    }


def _stored(info: RunInfo, cell: Cell, records: Sequence[RoundRecord]) -> StoredCell:
    finished = [record for record in records if record.failure is None]
    found = proof_findings(cell, info.prepared.get(cell.id, Prepared()), records, info.plan.rounds)
    found += judge_disturbance(disturbance_of(finished))
    figures = [launch_figure_ms(blocks) for blocks in launches(finished, "compute")]
    sessions = [session for record in finished for session in record.sessions]
    return StoredCell(
        cell_id=cell.id,
        title=cell.title,
        identity=identity_of(cell),
        latency_ms=hodges_lehmann(figures) if figures else None,
        timing=sessions[0].timeline if sessions else None,
        invalid=(*_reasons(found, *_MISLEADING), *_too_few(len(figures))),
        outputs=_reasons(found, "parity_failed"),
        failed=_reasons(found, *FAILURES),
    )


def _reasons(found: Sequence[Finding], *statuses: str) -> tuple[str, ...]:
    texts = (f"{finding.status}: {finding.reason}" for finding in found if finding.status in statuses)
    return tuple(dict.fromkeys(texts))


def _too_few(rounds: int) -> tuple[str, ...]:
    return () if rounds >= DEFAULT_ROUNDS else (f"{rounds} rounds; {DEFAULT_ROUNDS} are needed",)
