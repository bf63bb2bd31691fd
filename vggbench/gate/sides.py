"""What each side of a paired gate measures a cell with: made by a process of that side's environment.

No torch, no onnx here. Weights and float64 reference are made once, by base, and found again by head; the ONNX file is
each side's own, unless both have the same exporters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from vggbench.errors import ArtefactError
from vggbench.gate.environments import SIDES, Starter, Starters
from vggbench.gate.records import Side
from vggbench.measure.client import WorkerClient, WorkerFailure
from vggbench.measure.records import Failure
from vggbench.plan import Cell
from vggbench.preparation import Materials, prepared_of
from vggbench.results.run_info import Prepared

PREPARING = "vggbench.gate.preparing"
EXPORT_TIMEOUT_S = 1800.0  # as long as an exporter may hold the lock of a variant's folder
_MATERIALS = TypeAdapter(Materials)


@dataclass(frozen=True, slots=True)
class Found:
    """What one side measures a cell with; `materials` is None where it could not be made, and `prepared` says why.

    Attributes:
        weights: hash of the weights file that it was made of.
    """

    prepared: Prepared
    materials: Materials | None = None
    weights: str = ""


def prepare_sides(
    cells: Sequence[Cell], exports: Path, starters: Starters, announce: Callable[[Cell], None]
) -> dict[str, dict[Side, Found]]:
    """Make what every cell needs on each side, by cell id; raises `ArtefactError` where the sides' weights differ."""
    made = {side: _prepare(cells, exports, starters[side], announce) for side in SIDES}
    for cell in cells:
        hashes = {made[side][cell.id].weights for side in SIDES} - {""}
        if len(hashes) > 1:
            listed = " and ".join(sorted(sha256[:12] for sha256 in hashes))
            raise ArtefactError(f"{cell.title}: the sides were made from different weights files, {listed}")
    return {cell.id: {side: made[side][cell.id] for side in SIDES} for cell in cells}


def _prepare(
    cells: Sequence[Cell], exports: Path, start: Starter, announce: Callable[[Cell], None]
) -> Mapping[str, Found]:
    """Make them in one process, which imports its libraries once; one that broke is followed by another."""
    found: dict[str, Found] = {}
    worker: WorkerClient | None = None
    with ExitStack() as kept:
        for cell in cells:
            announce(cell)
            try:
                if worker is None:
                    worker = kept.enter_context(start(module=PREPARING, timeout_s=EXPORT_TIMEOUT_S))
                found[cell.id] = _ask(worker, cell, exports)
            except WorkerFailure as error:
                failure = Failure(stage=error.stage, status=error.status, reason=error.reason)
                found[cell.id] = Found(Prepared(failure=failure))
                kept.close()
                worker = None
    return found


def _ask(worker: WorkerClient, cell: Cell, exports: Path) -> Found:
    answer = worker.call("prepare", cell=asdict(cell), exports=str(exports.absolute()))
    try:
        materials = _MATERIALS.validate_python(answer["materials"])
    except (ValidationError, KeyError) as error:
        raise WorkerFailure("prepare", "failed", f"the answer is none: {str(error).splitlines()[0]}") from None
    return Found(prepared_of(materials), materials, str(answer["weights"]))
