"""A damaged fp32 file as an int8 or fp8 one, by the ranges of the undamaged network: damaged before it was quantised.

What damage adds has no range of its own; it takes that of what it was made from, as an exporter would that knows of no
damage. Values of the undamaged network have their names in the damaged file, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.calibration import ranges_artefact, read_ranges
from vggbench.artefacts.exported import exported
from vggbench.artefacts.onnx_form import OnnxForm
from vggbench.artefacts.qdq import activation_grid, insert_quantizers, sources
from vggbench.artefacts.quantize import _Weights
from vggbench.artefacts.weights import weights_artefact
from vggbench.models.spec import ModelSpec
from vggbench.parity.quantized_reference import quantized_reference_artefact
from vggbench.parity.reference import reference_artefact
from vggbench.parity.tolerance import spread_tolerance

QUANTIZED_FILE = "damaged-quantized.onnx"


class QuantizedFile:
    """The exported file of a form, what it is held against, and damaged files in its place.

    Attributes:
        reference: outputs of the file's own graph in float64.
        tolerance: the largest error from it that passes.
    """

    def __init__(self, spec: ModelSpec, exports: Path, form: OnnxForm) -> None:
        self._form = form
        file, parent = exported(spec, exports, form), exported(spec, exports, form.parent)
        self._ranges = read_ranges(ranges_artefact(spec, exports, parent, form.asked_calibration)).ranges
        exact = reference_artefact(spec, exports, weights_artefact(spec, exports))
        with np.load(quantized_reference_artefact(spec, exports, file, exact).path) as arrays:
            self.reference: NDArray[np.float64] = arrays["logits"]
            self.tolerance = spread_tolerance(float(arrays["spread"]))

    def damaged(self, fp32: Artefact) -> Artefact:
        """Quantise a damaged fp32 file, beside it; it is no artefact of a store, only what a backend opens."""
        model = onnx.load(fp32.path)
        makers = {output: node for node in model.graph.node for output in node.output}
        grids = {
            name: activation_grid(*self._ranges[_known(origin, makers, self._ranges)], *self._kind)
            for name, origin in sources(model.graph, self._form.layout).items()
        }
        weights = _Weights(fp32.path.parent, model.graph, self._form)
        numbers: dict[str, bytes] = defaultdict(bytes)
        for name, piece in weights.tensors(grids):
            numbers[name] += piece
        insert_quantizers(model.graph, grids, weights.names)
        weights.replace_initializers()
        for tensor in model.graph.initializer:
            if tensor.name in numbers:
                tensor.raw_data = numbers[tensor.name]
        quantized = replace(fp32, main=QUANTIZED_FILE, precision=self._form.precision)
        quantized.path.write_bytes(model.SerializeToString())
        return quantized

    @property
    def _kind(self) -> tuple[str, str]:
        return self._form.precision, self._form.layout


def _known(name: str, makers: Mapping[str, onnx.NodeProto], ranges: Mapping[str, object]) -> str:
    while name not in ranges:
        name = makers[name].input[0]
    return name
