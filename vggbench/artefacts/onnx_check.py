"""Holds a written ONNX file against the request: dimensions, types, layers, weights.

Imports onnx inside its functions and no torch. A request that an exporter could not honour is often dropped without
a word (a dynamic dimension becomes fixed, an opset another), so nothing here trusts what the exporter was told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vggbench.artefacts.external_data import BATCH_NORM_EPSILON
from vggbench.artefacts.onnx_form import NORM_PARTS, OnnxForm
from vggbench.artefacts.store import TensorShape
from vggbench.artefacts.typed_graph import element_type, stays_fp32, value_types
from vggbench.errors import ExportError
from vggbench.models.layers import mac_layers
from vggbench.models.spec import IMAGE_CHANNELS, ModelSpec

if TYPE_CHECKING:
    import onnx

INPUT, LOGITS, PROBABILITIES, BATCH = "input", "logits", "probabilities", "batch"
BATCH_NORM = "BatchNormalization"
MAC_OPERATIONS = frozenset({"Conv", "Gemm", "MatMul"})
POOL = "avgpool"  # two small products where the adaptive pool's bins overlap; the layer walk counts it as a pool
FLOATING = frozenset({1, 10, 11, 16})  # ONNX's numbers of fp32, fp16, fp64 and bf16
FP32_ROUNDING = 2**-23  # of an attribute, which is stored in fp32


def output_names(spec: ModelSpec) -> list[str]:
    """Return the names of the file's outputs in order."""
    return [PROBABILITIES, LOGITS] if spec.outputs == PROBABILITIES else [LOGITS]


def check_onnx(spec: ModelSpec, form: OnnxForm, path: Path) -> tuple[tuple[TensorShape, ...], tuple[TensorShape, ...]]:
    """Return the file's inputs and outputs (name, type, shape); `ExportError` says how it departs from the request."""
    import onnx

    try:
        onnx.checker.check_model(path, full_check=True)  # includes strict shape inference
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{spec.variant}: onnx refuses the exported file: {str(error).splitlines()[0]}") from error
    model = onnx.load(path, load_external_data=False)
    departure = next(_departures(spec, form, model, path.parent), None)
    if departure is not None:
        raise ExportError(f"{spec.variant}: the exported file {departure}")
    return tuple(map(_tensor, model.graph.input)), tuple(map(_tensor, model.graph.output))


def _departures(spec: ModelSpec, form: OnnxForm, model: onnx.ModelProto, folder: Path) -> Iterator[str]:
    """Yield everything in which a file is not what was asked for, as the end of a sentence."""
    written = {entry.domain: entry.version for entry in model.opset_import}
    if written != {"": form.opset}:
        yield f"is written in opset {written}, asked for was {form.opset}"
    yield from _interface_departures(spec, model.graph)
    yield from _layer_departures(spec, model.graph)
    yield from _norm_departures(spec, form, model.graph)
    yield from _type_departures(form, model)
    yield from _weight_departures(spec, form, model.graph)
    yield from _place_departures(model.graph, folder)


def _interface_departures(spec: ModelSpec, graph: onnx.GraphProto) -> Iterator[str]:
    size = spec.input_size
    image = (INPUT, "float32", (BATCH, IMAGE_CHANNELS, size, size))
    expected = [image, *((name, "float32", (BATCH, spec.num_classes)) for name in output_names(spec))]
    found = [_tensor(value) for value in (*graph.input, *graph.output)]
    if found != expected:
        yield f"has inputs and outputs {found}, asked for were {expected}"


def _layer_departures(spec: ModelSpec, graph: onnx.GraphProto) -> Iterator[str]:
    if any(node.op_type == "Dropout" for node in graph.node):
        yield "still has Dropout"
    expected = [layer.name for layer in mac_layers(spec)]
    products = [node.name for node in graph.node if node.op_type in MAC_OPERATIONS]
    found = [name for name in products if name.split("/")[0] != POOL]
    if found != expected:
        yield f"has the convolutions and products {found}, the network has {expected}"


def _norm_departures(spec: ModelSpec, form: OnnxForm, graph: onnx.GraphProto) -> Iterator[str]:
    expected = [layer.name for layer in form.kept_norms(spec)]
    norms = [node for node in graph.node if node.op_type == BATCH_NORM]
    if [node.name for node in norms] != expected:
        yield f"has the batch norms {[node.name for node in norms]}, asked for were {expected}"
    for node in norms:
        wanted = [f"{node.name}.{part}" for part in NORM_PARTS]
        if list(node.input)[1:] != wanted:
            yield f"gives {node.name} {list(node.input)[1:]}, asked for was {wanted}"
        numbers = {entry.name: entry.f for entry in node.attribute}
        if numbers.keys() != {"epsilon"} or abs(numbers["epsilon"] / BATCH_NORM_EPSILON - 1) > FP32_ROUNDING:
            yield f"gives {node.name} the attributes {numbers}, the network has epsilon {BATCH_NORM_EPSILON}"


def _type_departures(form: OnnxForm, model: onnx.ModelProto) -> Iterator[str]:
    """A file that is named after a type and computes in another is the one thing that no backend would tell."""
    import onnx

    types, fp32, element = value_types(model), onnx.TensorProto.FLOAT, element_type(form.precision)
    for node in model.graph.node:
        wanted = fp32 if stays_fp32(node, form) else element
        allowed = {fp32, element} if node.op_type == "Cast" else {wanted}
        for name in filter(None, (*node.input, *node.output)):
            found = types.get(name, onnx.TensorProto.UNDEFINED)
            if found not in allowed and (found in FLOATING or node.op_type in MAC_OPERATIONS):
                names = (onnx.TensorProto.DataType.Name(kind).lower() for kind in (found, wanted))
                yield "has {} of {} in {}, asked for was {}".format(name, node.name, *names)


def _weight_departures(spec: ModelSpec, form: OnnxForm, graph: onnx.GraphProto) -> Iterator[str]:
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for key in form.keys(spec):
        if key not in stored or bool(stored[key].external_data) != form.external_data:
            yield f"lacks {key}"


def _place_departures(graph: onnx.GraphProto, folder: Path) -> Iterator[str]:
    import onnx

    for tensor in graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        size = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * math.prod(tensor.dims)
        if place and int(place["length"]) != size:
            yield f"gives {tensor.name} {place['length']} bytes for the shape {list(tensor.dims)}"
        if place and int(place["offset"]) + int(place["length"]) > (folder / place["location"]).stat().st_size:
            yield f"points {tensor.name} beyond the end of {place['location']}"


def _tensor(value: onnx.ValueInfoProto) -> TensorShape:
    import onnx

    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return value.name, dtype, tuple(_dimension(dimension) for dimension in tensor.shape.dim)


def _dimension(dimension: onnx.TensorShapeProto.Dimension) -> int | str:
    if dimension.HasField("dim_value"):
        return dimension.dim_value
    return dimension.dim_param or "?"
