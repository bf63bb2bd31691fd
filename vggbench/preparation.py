"""From a cell to what its rounds need: artefact, reference, tolerance.

Imports torch and onnx only where something has to be made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vggbench.artefacts.artefact import Artefact, check_files
from vggbench.backends.registry import find_backend
from vggbench.backends.script import script_artefact, script_reference
from vggbench.errors import CellError
from vggbench.measure.records import Failure
from vggbench.models.layers import mac_layers, totals, walk
from vggbench.models.spec import ModelSpec
from vggbench.parity.metrics import amplification
from vggbench.parity.tolerance import tolerance
from vggbench.plan import Cell, Plan
from vggbench.results.run_info import Prepared


@dataclass(frozen=True, slots=True)
class Materials:
    """What one cell's rounds open: the artefact, and the reference its outputs are held against."""

    artefact: Artefact
    reference: Artefact
    tolerance: float


def materials(cell: Cell, exports: Path) -> Materials:
    """Return the cell's materials, made where they do not exist yet; raises what exporting raises."""
    kind = find_backend(cell.backend).artefact_kind
    artefact, reference = _files(kind, cell.spec, exports)
    check_files(reference)  # read here and now; the artefact is checked where it is opened
    with np.load(reference.path, allow_pickle=False) as arrays:
        # A scripted reference has no layers.
        grown = arrays["amplifications"].tolist() if "amplifications" in arrays else amplification(arrays["logits"])
    lengths = [layer.reduction_length for layer in mac_layers(cell.spec)]
    return Materials(artefact, reference, tolerance(cell.precision, lengths, grown))


def _files(kind: str, spec: ModelSpec, exports: Path) -> tuple[Artefact, Artefact]:
    if kind == "script":
        script = script_artefact(spec, exports)
        return script, script_reference(spec, exports, script)
    from vggbench.artefacts.onnx import onnx_artefact
    from vggbench.artefacts.weights import weights_artefact
    from vggbench.parity.reference import reference_artefact

    weights = weights_artefact(spec, exports)
    artefact = weights if kind == "weights" else onnx_artefact(spec, exports, weights)
    return artefact, reference_artefact(spec, exports, weights)


def prepare_all(
    plan: Plan, exports: Path, announce: Callable[[Cell], None]
) -> tuple[dict[str, Prepared], dict[str, Materials]]:
    """Make what every cell needs, by cell id; one that cannot be prepared has a reason and no materials."""
    kept: dict[str, Prepared] = {}
    found: dict[str, Materials] = {}
    for cell in plan.cells:
        if cell.unsupported:
            continue
        announce(cell)
        try:
            found[cell.id] = materials(cell, exports)
        except CellError as error:
            failure = Failure(stage="prepare", status="failed", reason=str(error))
            kept[cell.id] = replace(Prepared(), failure=failure)
        else:
            kept[cell.id] = _prepared(cell, found[cell.id])
    return kept, found


def _prepared(cell: Cell, found: Materials) -> Prepared:
    whole = totals(walk(cell.spec))
    artefact = found.artefact.to_json() | {"folder": Path(found.artefact.folder).name}
    return Prepared(
        artefact=artefact,
        artefact_bytes=found.artefact.bytes,
        reference_sha256=found.reference.sha256,
        tolerance=found.tolerance,
        macs=whole.macs,
        parameters=whole.parameters,
    )
