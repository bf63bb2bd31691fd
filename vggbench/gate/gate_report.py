"""What a paired gate says: derived from its head and journal alone, so that it can be derived again.

No torch, no pandas.
"""

from __future__ import annotations

from collections.abc import Sequence

from vggbench.gate.decide import judge
from vggbench.gate.environments import differences
from vggbench.gate.gate_info import GateInfo
from vggbench.gate.measured import cell_effects
from vggbench.gate.pairs import PairedRound
from vggbench.gate.records import CellEffects, GateReport, MissingCell


def effects_of(info: GateInfo, records: Sequence[PairedRound]) -> list[CellEffects]:
    """Return what was measured of each cell that both sides have."""
    by_cell: dict[str, list[PairedRound]] = {cell.id: [] for cell in info.paired}
    for record in records:
        by_cell[record.cell_id].append(record)
    return [cell_effects(cell, info.prepared[cell.id], by_cell[cell.id], info.rule) for cell in info.paired]


def report_of(info: GateInfo, records: Sequence[PairedRound]) -> GateReport:
    """Return what a gate says: derived from its head and journal alone."""
    base, head = info.sides["base"], info.sides["head"]
    return GateReport(
        kind="gate",
        base=base.text,
        head=head.text,
        rule=info.rule,
        verdicts=judge(effects_of(info, records), info.rule),
        missing=missing_cells(info),
        differences=differences(base, head),
        notes=tuple(_notes(info, records)),
        false_alarm_rate=info.rule.false_alarm_rate,
    )


def missing_cells(info: GateInfo) -> tuple[MissingCell, ...]:
    """Return the cells that one side alone has."""
    return tuple(MissingCell(cell.id, cell.title, side) for cell in info.cells for side in info.lacks.get(cell.id, {}))


def _notes(info: GateInfo, records: Sequence[PairedRound]) -> list[str]:
    notes = [
        f"{cell.title} is not in {side}: {reason}"
        for cell in info.cells
        for side, reason in info.lacks.get(cell.id, {}).items()
    ]
    nowhere = [cell for cell in info.cells if cell.unsupported]
    notes += [f"{cell.title} is unsupported on both sides: {cell.unsupported}" for cell in nowhere]
    return notes + _outputs_notes(records)


def _outputs_notes(records: Sequence[PairedRound]) -> list[str]:
    """Say how far the outputs of the two sides are apart, also where that is within every tolerance."""
    known = [record for record in records if record.identical is not None]
    if not known:
        return []
    different = {record.cell_id for record in known if not record.identical}
    cells = len({record.cell_id for record in known})
    if not different:
        return [f"outputs: the same to the bit on both sides, in {cells} of {cells} cells"]
    worst = max((record.difference or 0.0 for record in known), default=0.0)
    return [f"outputs: not the same to the bit in {len(different)} of {cells} cells, {worst:.1e} of the signal at most"]
