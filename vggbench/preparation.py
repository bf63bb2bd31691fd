"""From a cell to what its rounds need: artefact, reference, tolerance.

Imports torch and onnx only where something has to be made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact, check_files
from vggbench.artefacts.onnx_form import OnnxForm
from vggbench.artefacts.quantization import QUANTIZED_PRECISIONS
from vggbench.backends.registry import find_backend
from vggbench.backends.script import script_artefact, script_reference
from vggbench.data.source import DataSource
from vggbench.errors import CellError
from vggbench.measure.records import Failure
from vggbench.measure.request import RoundRequest, Timing
from vggbench.models.layers import mac_layers, totals, walk
from vggbench.models.network_file import Network, NetworkFile
from vggbench.parity.inputs import input_images, keep_inputs
from vggbench.parity.metrics import amplification
from vggbench.parity.tolerance import spread_tolerance, tolerance
from vggbench.plan import Cell, Plan
from vggbench.results.run_info import Prepared

if TYPE_CHECKING:
    from vggbench.data.dataset import DataSet


@dataclass(frozen=True, slots=True)
class Materials:
    """What one cell's rounds open, the reference its outputs are held against, and what one image costs.

    Attributes:
        works: (multiply-accumulates, weights) of each layer with any; all in one where layers are not told apart.
    """

    artefact: Artefact
    reference: Artefact
    tolerance: float
    works: tuple[tuple[int, int], ...]
    parameters: int


def materials(cell: Cell, exports: Path) -> Materials:
    """Return the cell's materials, made where they do not exist yet; raises what exporting raises."""
    artefact, reference = _files(cell, exports)
    check_files(reference)  # read here and now; the artefact is checked where it is opened
    with np.load(reference.path, allow_pickle=False) as stored:
        arrays = dict(stored)
    works, lengths, parameters = _work(cell.spec, arrays)
    return Materials(artefact, reference, _tolerance(cell.precision, lengths, arrays), works, parameters)


def _tolerance(precision: str, lengths: Sequence[int], arrays: Mapping[str, NDArray[Any]]) -> float:
    """Return the largest error that passes: from the precision, or from the roundings of a file's own grids."""
    if "spread" in arrays:
        return spread_tolerance(float(arrays["spread"]))
    # A scripted reference has no layers.
    grown = arrays["amplifications"].tolist() if "amplifications" in arrays else amplification(arrays["logits"])
    return tolerance(precision, lengths, grown)


def _work(network: Network, arrays: Mapping[str, NDArray[Any]]) -> tuple[tuple[tuple[int, int], ...], list[int], int]:
    """Return one image's MACs and weights by layer, each layer's reduction length, and the parameters."""
    if isinstance(network, NetworkFile):
        whole = int(arrays["macs"].sum()), network.parameters
        return (whole,), arrays["reduction_lengths"].tolist(), network.parameters
    layers = mac_layers(network)
    works = tuple((layer.macs, layer.parameters) for layer in layers)
    return works, [layer.reduction_length for layer in layers], totals(walk(network)).parameters


def _files(cell: Cell, exports: Path) -> tuple[Artefact, Artefact]:
    """Return what the cell opens, and what its outputs are held against."""
    network, kind = cell.spec, find_backend(cell.backend).artefact_kind
    if isinstance(network, NetworkFile):
        return _files_of_file(network, exports, cell.source)
    if kind == "script":
        script = script_artefact(network, exports)
        return script, script_reference(network, exports, script, input_images(network, exports, cell.source))
    from vggbench.artefacts.exported import exported
    from vggbench.artefacts.weights import weights_artefact
    from vggbench.parity.reference import reference_artefact

    artefact = None if kind == "weights" else exported(network, exports, onnx_form(cell))
    weights = weights_artefact(network, exports)  # written while the graph was traced, if there is one
    exact = reference_artefact(network, exports, weights, cell.source)
    if artefact is None or artefact.precision not in QUANTIZED_PRECISIONS:
        return artefact or weights, exact
    from vggbench.parity.quantized_reference import quantized_reference_artefact

    return artefact, quantized_reference_artefact(network, exports, artefact, exact)


def onnx_form(cell: Cell) -> OnnxForm:
    """Return the form of the ONNX file that a cell opens: as its backend wants it, and as the export was asked for."""
    opened = find_backend(cell.backend).file_form(cell.precision, cell.options)
    return OnnxForm.of_cell(opened.precision, cell.export_options, opened.layout)


def _files_of_file(network: NetworkFile, exports: Path, source: DataSource | None) -> tuple[Artefact, Artefact]:
    from vggbench.artefacts.network_file import network_artefact
    from vggbench.parity.self_reference import self_reference_artefact

    artefact = network_artefact(network, exports)
    return artefact, self_reference_artefact(network, exports, artefact, source)


def on_images_of(cells: Iterable[Cell], data: DataSet, exports: Path) -> tuple[Cell, ...]:
    """Return the cells, to be shown images of a data set, which are kept for each network; errors as `keep_inputs`."""
    sources: dict[Network, DataSource] = {}
    made = []
    for cell in cells:
        if cell.spec not in sources:
            sources[cell.spec] = keep_inputs(cell.spec, exports, data)
        made.append(replace(cell, source=sources[cell.spec]))
    return tuple(made)


def missing_bytes(plan: Plan, exports: Path) -> int:
    """Return how much `prepare_all` would write for a plan, at most."""
    by_network: dict[tuple[Network, DataSource | None], list[Cell]] = {}
    for cell in plan.cells:
        if not cell.unsupported:
            by_network.setdefault((cell.spec, cell.source), []).append(cell)
    return sum(_missing_bytes(network, source, cells, exports) for (network, source), cells in by_network.items())


def _missing_bytes(network: Network, source: DataSource | None, cells: Sequence[Cell], exports: Path) -> int:
    from vggbench.artefacts import exported, network_file, weights
    from vggbench.parity import reference

    if isinstance(network, NetworkFile):
        missing = network_file.missing_bytes(network, exports)
        return missing and missing + reference.reference_bytes(network)
    kinds = {find_backend(cell.backend).artefact_kind for cell in cells}
    if kinds == {"script"}:  # a few hundred bytes
        return 0
    forms = {onnx_form(cell) for cell in cells if find_backend(cell.backend).artefact_kind == "onnx"}
    missing = exported.missing_bytes(network, exports, forms) if forms else weights.missing_bytes(network, exports)
    wanted = reference.missing_bytes(network, exports, source)
    if missing or wanted:  # each quantised file has a reference of its own
        wanted += reference.reference_bytes(network) * sum(form.precision in QUANTIZED_PRECISIONS for form in forms)
    return missing + wanted


def request_for(
    cell: Cell, found: Materials, number: int, *, in_flight: int, seconds: float, seed: int, timeout_s: float
) -> RoundRequest:
    """Return what round `number` of a cell is asked to do, in `seconds` of measuring."""
    return RoundRequest(
        cell_id=cell.id,
        round=number,
        backend=cell.backend,
        device=cell.device,
        precision=cell.precision,
        batch_size=cell.batch_size,
        threads=cell.threads,
        in_flight=in_flight,
        options=cell.options,
        artefact=found.artefact.to_json(),
        reference=str(found.reference.path),
        reference_sha256=found.reference.files[found.reference.main],
        tolerance=found.tolerance,
        timing=Timing.of_seconds(seconds),
        seed=seed,
        timeout_s=timeout_s,
    )


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
        except (CellError, MemoryError) as error:
            failure = Failure(stage="prepare", status="failed", reason=str(error) or "memory ran out")
            kept[cell.id] = replace(Prepared(), failure=failure)
        else:
            kept[cell.id] = prepared_of(found[cell.id])
    return kept, found


def prepared_of(found: Materials) -> Prepared:
    """Return what is kept of a cell's materials in the head of a run."""
    artefact = found.artefact.to_json() | {"folder": Path(found.artefact.folder).name}
    return Prepared(
        artefact=artefact,
        artefact_bytes=found.artefact.bytes,
        reference_sha256=found.reference.sha256,
        tolerance=found.tolerance,
        macs=sum(macs for macs, _weights in found.works),
        works=found.works,
        parameters=found.parameters,
    )
