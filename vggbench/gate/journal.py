"""The journal of a paired gate: one line a finished round of both sides, on disk before the next begins.

No torch, no pandas.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from vggbench.errors import RunFolderError
from vggbench.gate.gate_info import GateInfo
from vggbench.gate.pairs import PairedRound
from vggbench.results.journal import REMEDY, whole_lines
from vggbench.results.numbers import check_numbers

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
    records = [_read_line(path, number, line) for number, line in enumerate(whole_lines(path), start=1)]
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


def _read_line(path: Path, number: int, line: bytes) -> PairedRound:
    try:
        record = _RECORD.validate_json(line, strict=True)
        check_numbers(json.loads(line))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        wrong = f"{where or 'line'}: {first['msg']}"
    except ValueError as error:
        wrong = str(error)
    else:
        return record
    raise RunFolderError(f"{path}, line {number}: not a paired round's record ({wrong}); {REMEDY}")
