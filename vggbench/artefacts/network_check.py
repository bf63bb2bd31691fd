"""Whether somebody else's ONNX graph is a network that can be measured: images in, a row of numbers an image out.

Imports onnx inside its functions. What cannot be proven of a graph is refused here, in one line, before anything runs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vggbench.errors import RequestError
from vggbench.models.spec import IMAGE_CHANNELS, MAX_INPUT_SIZE

if TYPE_CHECKING:
    import onnx

COUNTED_OPERATIONS = frozenset({"Conv", "Gemm", "MatMul"})
_DOMAINS = ("", "ai.onnx")
_REFUSED = {
    "cannot be counted, so that nothing could be proven of what ran them": (
        *("Attention", "ConvInteger", "ConvTranspose", "DeformConv", "Einsum", "GRU", "LSTM", "MatMulInteger"),
        *("QLinearConv", "QLinearMatMul", "RNN"),
    ),
    "depend on values that are known only while it runs": ("If", "Loop", "Scan"),
    "are quantised, and quantised networks are not measured": (
        *("DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"),
    ),
}
_TYPE_NAMES = {"float16": "fp16", "float32": "fp32", "float64": "fp64", "bfloat16": "bf16"}
_STATISTICS = slice(3, 5)  # a batch norm's inputs that training does not change: mean and variance


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """What goes in and what comes out; `batch_size` is 0 where any is taken."""

    input_name: str
    output_name: str
    input_size: int
    num_classes: int
    batch_size: int


def refusal(path: Path, text: str) -> RequestError:
    """Return the error that says why the file is not taken, on one line whatever names it holds."""
    return RequestError(f"{path}: {''.join(letter if letter.isprintable() else '?' for letter in text)}")


def check_operations(path: Path, model: onnx.ModelProto) -> None:
    """Raise `RequestError` for operations that could not be computed, or of which nothing could be proven."""
    import onnx

    newest = onnx.defs.onnx_opset_version()
    written = max((entry.version for entry in model.opset_import if entry.domain in _DOMAINS), default=0)
    if written > newest:
        raise refusal(path, f"is written in opset {written}; the onnx installed knows up to {newest}")
    foreign = sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in _DOMAINS})
    if foreign:
        raise refusal(path, f"has {', '.join(foreign)}: no operators of ONNX, so there is no reference for them")
    operations = {node.op_type for node in model.graph.node}
    for why, names in _REFUSED.items():
        if refused := sorted(operations & {*names}):
            raise refusal(path, f"has {', '.join(refused)}, whose multiply-accumulates {why}")
    if not operations & COUNTED_OPERATIONS:
        raise refusal(path, "has neither a convolution nor a matrix product: there is nothing to measure")


def check_file(path: Path) -> None:
    """Raise `RequestError` with what onnx has against the file."""
    import onnx

    try:
        onnx.checker.check_model(path, full_check=True)  # includes strict shape inference
    # ValueError: a type that is none, or a message of onnx's own that quotes a name which is not UTF-8.
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise refusal(path, f"onnx refuses the file: {line}") from None


def interface(path: Path, graph: onnx.GraphProto, input_size: int | None) -> Interface:
    """Return the graph's one image input and one output; `RequestError` says how they differ from those wanted."""
    stored = {tensor.name for tensor in graph.initializer}  # old files list them among the inputs
    inputs = [value for value in graph.input if value.name not in stored]
    if (len(inputs), len(graph.output)) != (1, 1):
        raise refusal(
            path, f"has {len(inputs)} inputs and {len(graph.output)} outputs; one image input and one output are taken"
        )
    image, output = inputs[0], graph.output[0]
    batch, channels, *sides = _shape(path, image, 4, f"an image input is float32 (N, {IMAGE_CHANNELS}, S, S)")
    _batch, classes = _shape(path, output, 2, "an output is float32 (N, classes)")
    if channels != IMAGE_CHANNELS:
        raise refusal(path, f"input {image.name!r} has {channels or 'any number of'} channels, not 3")
    if not classes:
        raise refusal(path, f"output {output.name!r} does not say how many classes it has; export it with both")
    return Interface(
        input_name=image.name,
        output_name=output.name,
        input_size=_side(path, sides, input_size),
        num_classes=classes,
        batch_size=batch,
    )


def _shape(path: Path, value: onnx.ValueInfoProto, rank: int, wanted: str) -> tuple[int, ...]:
    """Return the dimensions of an fp32 tensor of that rank, a free one as 0."""
    import onnx

    tensor = value.type.tensor_type
    dimensions = tuple(max(dimension.dim_value, 0) for dimension in tensor.shape.dim)
    if tensor.elem_type == onnx.TensorProto.FLOAT and len(dimensions) == rank:
        return dimensions
    types = onnx.TensorProto.DataType
    kind = types.Name(tensor.elem_type).lower() if tensor.elem_type in types.values() else f"type {tensor.elem_type}"
    texts = (dimension.dim_param or str(dimension.dim_value or "?") for dimension in tensor.shape.dim)
    raise refusal(path, f"{value.name!r} is {kind} ({', '.join(texts)}); {wanted}")


def _side(path: Path, sides: list[int], asked: int | None) -> int:
    """Return the side of the images: the file's own, or where it takes any the one asked for."""
    own = {side for side in sides if side}
    if len(own) > 1:
        raise refusal(path, f"takes images of {sides[0]}x{sides[1]} pixels; only square ones are measured")
    if not own and asked is None:
        raise refusal(path, "takes images of any size; choose one with --input-size")
    side = own.pop() if own else asked or 0
    if asked is not None and asked != side:
        raise refusal(path, f"takes images of {side}x{side} pixels, not of {asked}; leave --input-size out")
    if not 1 <= side <= MAX_INPUT_SIZE:
        raise RequestError(f"input size is {side}; it must be from 1 to {MAX_INPUT_SIZE}")
    return side


def stored_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor that the graph holds or points to."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def stored_floats(graph: onnx.GraphProto) -> Counter[str]:
    """Return how many floating-point values are stored, by their type, without single numbers and statistics."""
    import onnx

    statistics = {
        name for node in graph.node if node.op_type == "BatchNormalization" for name in node.input[_STATISTICS]
    }
    found: Counter[str] = Counter()
    for tensor in stored_tensors(graph):
        name = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).name
        if name in _TYPE_NAMES and tensor.dims and tensor.name not in statistics:
            found[_TYPE_NAMES[name]] += math.prod(tensor.dims)
    return found
