"""A narrow network's int8 and fp8 files, and copies of them with one thing changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from tests.artefacts.networks import narrow
from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.exported import exported
from vggbench.artefacts.onnx_form import OnnxForm
from vggbench.artefacts.quantization import Calibration
from vggbench.models.spec import ModelSpec

CALIBRATION = Calibration(images=8)
SPEC = narrow(batch_norm=True)
KINDS = (("int8", "ort"), ("int8", "trt"), ("fp8", "trt"))

Change = Callable[[dict[str, np.ndarray]], None]
OTHER = "/other"  # behind the name of a tensor: for the dequantiser alone


def quantized(
    exports: Path, precision: str, layout: str, spec: ModelSpec = SPEC, calibration: Calibration = CALIBRATION
) -> Artefact:
    return exported(spec, exports, form_of(precision, layout, calibration))


def form_of(precision: str, layout: str, calibration: Calibration = CALIBRATION) -> OnnxForm:
    return OnnxForm(precision=precision, layout=layout, calibration=calibration)


def changed(artefact: Artefact, folder: Path, change: Change) -> Artefact:
    """Return a copy of a file with some of its stored tensors changed; it is no artefact of a store.

    A tensor that is added under another's name and `OTHER` takes its place in the dequantiser, not in the quantiser.
    """
    model = onnx.load(artefact.path)
    tensors = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in model.graph.initializer}
    before = dict(tensors)
    change(tensors)
    for tensor in model.graph.initializer:
        if tensors[tensor.name] is not before[tensor.name]:
            tensor.CopyFrom(numpy_helper.from_array(tensors[tensor.name], tensor.name))
    added = [numpy_helper.from_array(values, name) for name, values in tensors.items() if name not in before]
    model.graph.initializer.extend(added)
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            node.input[:] = [name + OTHER if name + OTHER in tensors else name for name in node.input]
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / artefact.main)
    return replace(artefact, folder=str(folder), files={artefact.main: ""})
