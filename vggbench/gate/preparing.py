"""Makes what a cell's rounds open, in the environment of one side: run there as a process that obeys line by line.

Run as `python -m vggbench.gate.preparing` with this vggbench's source. What is exported is that environment's own; the
weights file and the float64 reference are made once, by the side that is first, and found again by the other.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from vggbench.backends.registry import find_backend
from vggbench.measure.worker import obey, talk
from vggbench.models.network_file import NetworkFile
from vggbench.plan import Cell
from vggbench.preparation import Materials, materials

MODULE = "vggbench.gate.preparing"
_CELL = TypeAdapter(Cell)


def prepare(*, cell: dict[str, Any], exports: str) -> dict[str, Any]:
    """Return the cell's `Materials` as JSON data, and the hash of the weights that they are made of."""
    asked = _CELL.validate_python(cell)
    found = materials(asked, Path(exports))
    return {"materials": asdict(found), "weights": _weights(asked, found, Path(exports))}


def _weights(cell: Cell, found: Materials, exports: Path) -> str:
    """Return the hash of the weights file; where there is none, that of the file which is opened as it is."""
    if isinstance(cell.spec, NetworkFile) or find_backend(cell.backend).artefact_kind == "script":
        return found.artefact.sha256
    from vggbench.artefacts.weights import weights_artefact

    return weights_artefact(cell.spec, exports).sha256


if __name__ == "__main__":
    talk(lambda line: obey({"prepare": prepare}, line))
