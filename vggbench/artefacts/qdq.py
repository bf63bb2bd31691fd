"""Where the quantisers of a graph stand, and the grids that they round to.

A QuantizeLinear and the DequantizeLinear behind it round a tensor to `scale * (q - zero point)`. Runtimes turn a
convolution between such pairs into one on 8-bit numbers, each where the pairs stand as it expects them:

- `ort` is for ONNX Runtime's CPU provider and OpenVINO: activations unsigned with a zero point, pairs also between
  pools and reshapes, biases int32 in units of input scale times weight scale. A pair behind a ReLU makes it
  superfluous: negative numbers are rounded to the zero point. Logits stay fp32.
- `trt` is for TensorRT: zero points are 0, pairs stand on the inputs of convolutions and products alone, and biases
  are fp32.

Weights have a scale for each output channel and a zero point of 0 in both; they are stored in 8 bits. Pools and
reshapes move values without changing them, so that their output has their input's grid.

Imports onnx inside its functions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

PRODUCTS = frozenset({"Conv", "Gemm"})
MOVES = frozenset({"Flatten", "Identity", "MaxPool", "Reshape"})  # every value of the output is one of the input
LARGEST = {"int8": 127.0, "fp8": 448.0}  # of the numbers that are as far from 0 on either side
LEVELS = 255  # steps of an unsigned byte
INT32_LARGEST = 2**31 - 1
BLOCK_ELEMENTS = 1 << 22  # of a weight, quantised at a time
IMAGE, WEIGHT, BIAS = 0, 1, 2  # inputs of a product


@dataclass(frozen=True, slots=True)
class Grid:
    """The numbers that a tensor is rounded to: `scale * (q - zero_point)` for every q of an ONNX element type."""

    scale: float
    zero_point: int
    type: str

    @property
    def onnx_type(self) -> int:
        """The element type's number in ONNX."""
        import onnx

        return int(getattr(onnx.TensorProto, self.type))


def activation_grid(low: float, high: float, precision: str, layout: str) -> Grid:
    """Return the grid that holds every value from `low` to `high`, and 0 exactly."""
    if precision == "int8" and layout == "ort":
        low, high = min(low, 0.0), max(high, 0.0)
        scale = _scale(high - low, LEVELS)
        return Grid(scale, round(-low / scale), "UINT8")
    return Grid(_scale(max(abs(low), abs(high)), LARGEST[precision]), 0, weight_type(precision))


def _scale(extent: float, steps: float) -> float:
    """Return the step in fp32, as files have it; 1 for a tensor that is 0 throughout."""
    return float(np.float32(extent / steps)) or 1.0


def weight_type(precision: str) -> str:
    """Return the name of the element type that weights are stored in."""
    return {"int8": "INT8", "fp8": "FLOAT8E4M3FN"}[precision]


def quantized_rows(
    weights: NDArray[np.float32], precision: str, least: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.float32], NDArray[Any]]]:
    """Yield the scales of some output channels and their weights in 8 bits, the channels one after the other.

    A channel's scale lets its largest weight be the largest number; it is never below that channel's `least`. The
    weights are `(channels, ...)` and may lie in a file: only `BLOCK_ELEMENTS` of them are in memory at a time.
    """
    rows = max(1, BLOCK_ELEMENTS // max(1, weights[0].size))
    for first in range(0, len(weights), rows):
        block = np.asarray(weights[first : first + rows], dtype=np.float64).reshape(-1, weights[0].size)
        extents = np.abs(block).max(axis=1) / LARGEST[precision]
        scales = np.maximum(extents, least[first : first + rows]).astype(np.float32)
        scales[scales == 0] = 1.0
        yield scales, _rounded(block / scales[:, None], precision)


def _rounded(values: NDArray[np.float64], precision: str) -> NDArray[Any]:
    if precision == "int8":
        return np.clip(np.rint(values), -LARGEST["int8"], LARGEST["int8"]).astype(np.int8)
    import onnx

    largest = LARGEST["fp8"]  # beyond it the type has NaN
    eight_bits = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.FLOAT8E4M3FN)
    return np.clip(values, -largest, largest).astype(eight_bits)


def least_scales(bias: NDArray[np.float32], input_scale: float) -> NDArray[np.float64]:
    """Return the weight scales below which a bias would not fit int32 in units of input scale times weight scale."""
    limits: NDArray[np.float64] = np.abs(bias.astype(np.float64)) / (INT32_LARGEST * input_scale)
    return limits


def quantized_bias(
    bias: NDArray[np.float32], input_scale: float, weight_scales: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return a bias's scales, and its numbers in int32."""
    scales = (np.float32(input_scale) * weight_scales).astype(np.float32)
    scales[scales == 0] = np.finfo(np.float32).tiny
    numbers = np.rint(bias.astype(np.float64) / scales)
    return scales, np.clip(numbers, -INT32_LARGEST, INT32_LARGEST).astype(np.int32)


def sources(graph: onnx.GraphProto, layout: str) -> dict[str, str]:
    """Return the tensors that are rounded, each with the tensor that its values come from, in the graph's order.

    The latter are those whose ranges must be known.
    """
    stored = {tensor.name for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    rounded: dict[str, str] = {}
    for node in graph.node:
        for name in _rounded_around(node, layout):
            if name not in stored and name not in rounded:
                rounded[name] = _origin(name, makers)
    return rounded


def _rounded_around(node: onnx.NodeProto, layout: str) -> Sequence[str]:
    """Return the data that a node wants rounded: what it takes, and what it hands on unchanged."""
    if node.op_type in PRODUCTS:
        return [node.input[IMAGE]]
    if layout == "ort" and node.op_type in MOVES:
        return [node.input[IMAGE], node.output[0]]
    return []


def _origin(name: str, makers: Mapping[str, onnx.NodeProto]) -> str:
    """Follow a tensor back through the nodes that only move its values."""
    while name in makers and makers[name].op_type in MOVES:
        name = makers[name].input[IMAGE]
    return name


def insert_quantizers(graph: onnx.GraphProto, grids: Mapping[str, Grid], weights: Collection[str]) -> None:
    """Put the quantisers into a graph: behind each tensor that has a grid, and a dequantiser before each weight.

    `weights` are those, and the biases, that are stored with a scale for each channel. Their initializers (`quantized`,
    `scale`, `zero` behind a slash) are the caller's to add.
    """
    from onnx import helper

    nodes = list(graph.node)
    del graph.node[:]
    for value in graph.input:
        graph.node.extend(_pair(value.name) if value.name in grids else [])
    for node in nodes:
        for name in node.input:
            if name in weights:
                graph.node.append(
                    helper.make_node("DequantizeLinear", numbers_of(name), [name], f"{name}/dequantize", axis=0)
                )
        node.input[:] = [dequantized(name) if name in grids else name for name in node.input]
        graph.node.append(node)
        for name in node.output:
            graph.node.extend(_pair(name) if name in grids else [])
    graph.initializer.extend(tensor for name, grid in grids.items() for tensor in _grid_tensors(name, grid))


def dequantized(name: str) -> str:
    """Return what a rounded tensor is called."""
    return f"{name}/dequantized"


def numbers_of(name: str) -> list[str]:
    """Return what a rounded tensor's numbers, its scale and its zero point are called."""
    return [f"{name}/quantized", f"{name}/scale", f"{name}/zero"]


def _pair(name: str) -> list[onnx.NodeProto]:
    from onnx import helper

    numbers = numbers_of(name)
    return [
        helper.make_node("QuantizeLinear", [name, *numbers[1:]], [numbers[0]], f"{name}/quantize"),
        helper.make_node("DequantizeLinear", numbers, [dequantized(name)], f"{name}/dequantize"),
    ]


def _grid_tensors(name: str, grid: Grid) -> list[onnx.TensorProto]:
    import onnx

    _quantized, scale, zero = numbers_of(name)
    kind = onnx.helper.tensor_dtype_to_np_dtype(grid.onnx_type)
    return [
        onnx.numpy_helper.from_array(np.asarray(grid.scale, dtype=np.float32), scale),
        onnx.numpy_helper.from_array(np.asarray(grid.zero_point).astype(kind), zero),
    ]
