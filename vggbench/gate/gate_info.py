"""`gate.json`: what a paired gate declared before its first round, and what each side is and has prepared.

GATE_SCHEMA counts changes, here or in the journal's records, that an older reader would misread; the history:

    1   the first

No torch, no pandas.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from vggbench.gate.environments import PythonEnvironment
from vggbench.gate.pairs import BlockPace
from vggbench.gate.records import Rule, Side
from vggbench.plan import Cell
from vggbench.results.heads import read_head
from vggbench.results.run_folder import write_whole
from vggbench.results.run_info import Prepared

GATE_SCHEMA = 1
GATE_NAME = "gate.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateInfo:
    """The head of a paired gate.

    Attributes:
        cells: all that either side has, those that are supported on none included.
        lacks: by cell id, which side has it not, and why.
        sides: each side's Python environment.
        environment: the machine, as in a run's head.
        seed: of every order that is drawn.
        prepared: by cell id, what each side measures it with; empty until every artefact is made.
    """

    schema_version: int
    vggbench_version: str
    started_at: str
    cells: Annotated[tuple[Cell, ...], Field(min_length=1)]
    lacks: Mapping[str, Mapping[Side, str]]
    sides: Mapping[Side, PythonEnvironment]
    environment: Mapping[str, Any]
    rule: Rule
    pace: BlockPace
    seed: int
    prepared: Mapping[str, Mapping[Side, Prepared]] = field(default_factory=dict)

    @property
    def paired(self) -> tuple[Cell, ...]:
        """The cells that both sides have."""
        return tuple(cell for cell in self.cells if not cell.unsupported and cell.id not in self.lacks)


_INFO = TypeAdapter(GateInfo)


def write_gate_info(folder: Path, info: GateInfo) -> None:
    """Write `gate.json` whole or not at all; `RunFolderError` if it cannot be."""
    text = json.dumps(asdict(info), indent=1, allow_nan=False) + "\n"
    write_whole(folder / GATE_NAME, lambda file: file.write(text.encode()))


def read_gate_info(folder: Path) -> GateInfo:
    """Read `gate.json`; `RunFolderError` says what is wrong with the folder."""
    return read_head(folder / GATE_NAME, _INFO, what="gate", schema=GATE_SCHEMA, numbers=("pace", "prepared"))
