"""Cells -> a table of tolerances: what each precision allows, what PyTorch itself loses in it, and what was observed.

Imports no backend's library and no pandas at start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.weights import weights_artefact
from vggbench.backends.base import PRECISIONS
from vggbench.measure.records import RoundRecord
from vggbench.measure.rounds import verify_in_turn
from vggbench.measure.validity import gravest
from vggbench.models.layers import mac_layers
from vggbench.models.network_file import Network, NetworkFile
from vggbench.models.spec import ModelSpec
from vggbench.parity.own_error import pytorch_error
from vggbench.parity.reference import reference_artefact
from vggbench.parity.tolerance import ARITHMETIC, MARGIN, tolerance
from vggbench.plan import Cell, Plan, format_options
from vggbench.preparation import Materials, prepare_all, request_for
from vggbench.results.findings import findings
from vggbench.results.run_info import Prepared
from vggbench.runner import Observer

# A correct backend sums in another order or with Winograd's algorithm, which costs 3.6 times the direct sum.
FAR = MARGIN
UNSUPPORTED = "unsupported"
_ROUND_SECONDS = 1.0  # nothing is timed


@dataclass(frozen=True, slots=True, kw_only=True)
class ToleranceRow:
    """One network in one precision on one backend; figures are relative to the signal, None where there is none.

    Attributes:
        backend: empty where no backend has the precision here.
        bound: the largest error that passes parity.
        pytorch_error: PyTorch's own in that precision.
        pytorch_how: `eager`, or `emulated` by rounding in fp32.
        error: of the backend; of an int8 or fp8 file against that file's own graph in float64.
        quantization_error: against the network before it was quantised; None where it was not.
        margin: bound over error.
        times_pytorch: error over PyTorch's own.
        status: as a row of `verify` has it.
        note: why it is no other, and what else is to be seen; empty if nothing is.
    """

    variant: str
    input_size: int
    precision: str
    backend: str
    options: str
    bound: float | None
    pytorch_error: float | None
    pytorch_how: str
    error: float | None
    quantization_error: float | None
    margin: float | None
    times_pytorch: float | None
    status: str
    note: str


def tolerance_table(plan: Plan, precisions: Sequence[str], exports: Path, observer: Observer) -> list[ToleranceRow]:
    """Return a row a cell, and one for each of the precisions that none of a network's cells has."""
    kept, found = prepare_all(plan, exports, observer.preparing)
    records = _verify(plan, found, observer)
    networks = {cell.spec.digest(): _Known(cell.spec, exports) for cell in plan.cells}
    rows = []
    for digest, network in networks.items():
        own = []
        cells = [cell for cell in plan.cells if cell.spec.digest() == digest]
        for cell in cells:
            failure = kept[cell.id].failure if cell.id in kept else None
            if failure is not None:
                own.append(_row(network, cell, status=failure.status, note=failure.reason))
            elif cell.unsupported:
                own.append(_not_run(network, cell.precision, cell, cell.unsupported))
            else:
                own.append(_verified(network, cell, kept[cell.id], found[cell.id], records[cell.id]))
        lacking = [each for each in precisions if each not in {cell.precision for cell in cells}]
        own += [_not_run(network, precision, None, "no backend has it here") for precision in lacking]
        rows += sorted(own, key=lambda row: PRECISIONS.index(row.precision))
    return rows


def _verify(plan: Plan, found: Mapping[str, Materials], observer: Observer) -> dict[str, RoundRecord]:
    """Verify cells, those of a backend one after the other in one process."""
    records: dict[str, RoundRecord] = {}
    ordered = sorted((cell for cell in plan.cells if cell.id in found), key=lambda cell: cell.backend)
    requests = [
        request_for(
            cell, found[cell.id], 0, in_flight=1, seconds=_ROUND_SECONDS, seed=plan.seed, timeout_s=plan.timeout_s
        )
        for cell in ordered
    ]
    for done, (cell, record) in enumerate(zip(ordered, verify_in_turn(requests), strict=True)):
        observer.measuring(cell, done, len(ordered))
        observer.measured(cell, record)
        records[cell.id] = record
    return records


class _Known:
    """A network's reference, and what PyTorch makes of it in each precision, computed once."""

    def __init__(self, spec: Network, exports: Path) -> None:
        self.spec, self._exports = spec, exports
        self._errors: dict[str, tuple[float | None, str]] = {}

    @cached_property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        assert isinstance(self.spec, ModelSpec)
        reference = reference_artefact(self.spec, self._exports, weights_artefact(self.spec, self._exports))
        with np.load(reference.path, allow_pickle=False) as arrays:
            return dict(arrays)

    def bound(self, precision: str) -> float | None:
        """Return the tolerance, for a cell that is not run; None where no derivation is known from the spec alone."""
        if isinstance(self.spec, NetworkFile) or precision not in ARITHMETIC:
            return None
        lengths = [layer.reduction_length for layer in mac_layers(self.spec)]
        return tolerance(precision, lengths, self._arrays["amplifications"].tolist())

    def pytorch(self, precision: str) -> tuple[float | None, str]:
        """Return PyTorch's own error and how it was computed; nothing for a file, which no module stands for."""
        if isinstance(self.spec, NetworkFile):
            return None, ""
        if precision not in self._errors:
            weights = weights_artefact(self.spec, self._exports)
            arrays = self._arrays
            found = pytorch_error(self.spec, weights, precision, arrays["inputs"], arrays["logits"])
            self._errors[precision] = found or (None, "")
        return self._errors[precision]


def _verified(network: _Known, cell: Cell, prepared: Prepared, found: Materials, record: RoundRecord) -> ToleranceRow:
    """Return the row of a cell that was opened."""
    own, how = network.pytorch(cell.precision)
    known: dict[str, Any] = {"bound": found.tolerance, "pytorch_error": own, "pytorch_how": how}
    if record.failure is not None:
        return _row(network, cell, **known, status=record.failure.status, note=record.failure.reason)
    parity = record.sessions[0].parity
    error = (parity.metrics or {}).get("signal_error")
    times = error / own if error is not None and own else None
    wrong = findings(cell, prepared, [record], 1)
    return _row(
        network,
        cell,
        **known,
        error=error,
        quantization_error=parity.quantization_error,
        margin=found.tolerance / error if error else None,
        times_pytorch=times,
        status=gravest(wrong),
        note="; ".join(finding.reason for finding in wrong) or _remark(times),
    )


def _not_run(network: _Known, precision: str, cell: Cell | None, why: str) -> ToleranceRow:
    """Return the row of a precision that a backend does not have, or none."""
    own, how = network.pytorch(precision)
    known = {"bound": network.bound(precision), "pytorch_error": own, "pytorch_how": how}
    return _row(network, cell, **known, precision=precision, status=UNSUPPORTED, note=why)


def _row(network: _Known, cell: Cell | None, **facts: Any) -> ToleranceRow:
    nothing = dict.fromkeys(("bound", "pytorch_error", "error", "quantization_error", "margin", "times_pytorch"))
    identity = {
        "variant": network.spec.variant,
        "input_size": network.spec.input_size,
        "precision": cell.precision if cell else "",
        "backend": cell.backend if cell else "",
        "options": " ".join(format_options(cell.options)) if cell else "",
    }
    return ToleranceRow(**{**identity, **nothing, "pytorch_how": "", **facts})


def _remark(times: float | None) -> str:
    if times is None or times <= FAR:
        return ""
    return f"within the bound, and {times:.1f} times PyTorch's own: not as good as the precision can be"
