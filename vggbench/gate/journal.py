"""The journal of a paired gate: one line a finished round of both sides, on disk before the next begins.

No torch, no pandas.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import TypeAdapter

from vggbench.errors import RunFolderError
from vggbench.gate.gate_info import GateInfo
from vggbench.gate.pairs import PairedRound
from vggbench.results.heads import REMEDY, read_line
from vggbench.results.journal import whole_lines

PAIRS_NAME = "pairs.jsonl"
_RECORD = TypeAdapter(PairedRound)


def read_pairs(folder: Path, info: GateInfo) -> list[PairedRound]:
    """Return the finished rounds of a gate's folder.

    A torn last line is ignored; any other bad line, a round that stands there twice, or one that the gate does not have
    is a `RunFolderError`.
    """
    path = folder / PAIRS_NAME
    if not path.exists():
        return []
    records = [
        read_line(path, number, line, _RECORD, "a paired round's record")
        for number, line in enumerate(whole_lines(path), start=1)
    ]
    _check_declared(path, records, info)
    return records


def _check_declared(path: Path, records: Iterable[PairedRound], info: GateInfo) -> None:
    declared = {
        (cell.id, stage, number)
        for cell in info.paired
        for stage, (rounds, _level) in enumerate(info.rule.stages, start=1)
        for number in range(rounds)
    }
    for number, record in enumerate(records, start=1):
        key = record.cell_id, record.stage, record.round
        if key not in declared:
            text = f"round {record.round + 1} of stage {record.stage} of cell {record.cell_id}"
            raise RunFolderError(f"{path}, line {number}: {text} stands there twice or was not declared; {REMEDY}")
        declared.remove(key)
