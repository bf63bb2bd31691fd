"""Holds a written int8 or fp8 file against what was asked: layers, types, scales by channel, where quantisers stand.

Imports onnx inside its functions. Reads the graph, and of the weights only how many bytes there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.network_file import load_graph
from vggbench.artefacts.onnx_form import OnnxForm
from vggbench.artefacts.qdq import BIAS, IMAGE, PRODUCTS, WEIGHT, weight_type
from vggbench.errors import ExportError
from vggbench.models.layers import mac_layers
from vggbench.models.spec import ModelSpec

if TYPE_CHECKING:
    import onnx


def check_quantized(spec: ModelSpec, form: OnnxForm, path: Path) -> None:
    """Raise `ExportError` that says how the file departs from the request."""
    import onnx

    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{spec.variant}: onnx refuses the quantised file: {str(error).splitlines()[0]}") from error
    departure = next(_departures(spec, form, load_graph(path), path.parent), None)
    if departure is not None:
        raise ExportError(f"{spec.variant}: the quantised file {departure}")


def _departures(spec: ModelSpec, form: OnnxForm, model: onnx.ModelProto, folder: Path) -> Iterator[str]:
    """Yield everything in which a file is not what was asked for, as the end of a sentence."""
    found = _Quantizers(model.graph)
    products = [node for node in model.graph.node if node.op_type in PRODUCTS]
    expected = [layer.name for layer in mac_layers(spec)]
    if [node.name for node in products] != expected:
        yield f"has the convolutions and products {[node.name for node in products]}, the network has {expected}"
    for node in products:
        yield from _weight_departures(node, found, weight_type(form.precision))
        yield from _data_departures(node, found, "UINT8" if form.has_whole_biases else weight_type(form.precision))
        yield from _bias_departures(node, found, whole=form.has_whole_biases)
    if form.layout == "trt":
        yield from _place_departures(found)
    yield from _extent_departures(model.graph, folder)


class _Quantizers:
    """What the graph's dequantisers make, by name: of which type, with which scales and zero points."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = list(graph.node)
        self._makers = {output: node for node in graph.node for output in node.output}
        self._stored = {tensor.name: tensor for tensor in graph.initializer}

    def maker(self, name: str) -> onnx.NodeProto | None:
        """Return the dequantiser that makes a tensor; None where another node does, or none."""
        node = self._makers.get(name)
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    def is_stored(self, node: onnx.NodeProto) -> bool:
        """Say whether a dequantiser's numbers are in the file; others come from a quantiser."""
        return node.input[0] in self._stored

    def grid(self, node: onnx.NodeProto) -> tuple[str, NDArray[np.float32], NDArray[np.float32]]:
        """Return a dequantiser's type, scales, and zero points."""
        import onnx

        scale, zero = (onnx.numpy_helper.to_array(self._stored[name]) for name in node.input[1:])
        kind: str = onnx.TensorProto.DataType.Name(self._stored[node.input[2]].data_type)
        return kind, scale, zero.astype(np.float32)

    def channels(self, node: onnx.NodeProto) -> int:
        """Return how many output channels a stored weight has."""
        return int(self._stored[node.input[0]].dims[0])


def _weight_departures(node: onnx.NodeProto, found: _Quantizers, wanted: str) -> Iterator[str]:
    maker = found.maker(node.input[WEIGHT])
    if maker is None or not found.is_stored(maker):
        yield f"has no 8-bit weights for {node.name}"
        return
    kind, scales, zeros = found.grid(maker)
    if kind != wanted:
        yield f"stores the weights of {node.name} as {kind}, asked for was {wanted}"
    axis = {attribute.name: attribute.i for attribute in maker.attribute}.get("axis")
    if scales.shape != (found.channels(maker),) or axis != 0:
        yield f"has {scales.size} scales for the {found.channels(maker)} output channels of {node.name}"
    if not ((scales > 0) & np.isfinite(scales)).all() or zeros.any():
        yield f"has scales or zero points for the weights of {node.name} that no symmetric grid has"


def _data_departures(node: onnx.NodeProto, found: _Quantizers, wanted: str) -> Iterator[str]:
    maker = found.maker(node.input[IMAGE])
    if maker is None or found.is_stored(maker):
        yield f"does not round the input of {node.name}"
        return
    kind, scale, zero = found.grid(maker)
    if kind != wanted or scale.shape:
        yield f"rounds the input of {node.name} to {scale.size} grids of {kind}, asked for was one of {wanted}"
    if not (scale > 0 and np.isfinite(scale)) or (zero.any() and wanted != "UINT8"):
        yield f"rounds the input of {node.name} with scale {scale} and zero point {zero}"


def _bias_departures(node: onnx.NodeProto, found: _Quantizers, *, whole: bool) -> Iterator[str]:
    is_whole = found.maker(node.input[BIAS]) is not None
    if is_whole != whole:
        yield f"has the bias of {node.name} in {'int32' if is_whole else 'fp32'}, which its layout does not take"


def _place_departures(found: _Quantizers) -> Iterator[str]:
    """Yield what rounded tensors go to besides convolutions and products, which TensorRT refuses or runs in fp32."""
    for node in found.nodes:
        rounded = [name for name in node.input if (maker := found.maker(name)) and not found.is_stored(maker)]
        if rounded and node.op_type not in PRODUCTS:
            yield f"rounds the input of {node.name}, which is {node.op_type}"


def _extent_departures(graph: onnx.GraphProto, folder: Path) -> Iterator[str]:
    for tensor in graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if not place:
            continue
        if int(place["length"]) != math.prod(tensor.dims):  # a byte each
            yield f"gives {tensor.name} {place['length']} bytes for the shape {list(tensor.dims)}"
        if int(place["offset"]) + int(place["length"]) > (folder / place["location"]).stat().st_size:
            yield f"points {tensor.name} beyond the end of {place['location']}"
