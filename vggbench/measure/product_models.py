"""One matrix product or convolution as an ONNX model: in fp32, or in int8 between 8-bit tensors.

In the latter nothing is converted while it runs: data comes and goes in 8 bits, as between two layers of a network.
Imports onnx inside its functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

# What stands for operands of standard deviation 1 in 8 bits: up to 4 deviations of the data, 5 of the weights.
DATA_SCALE, DATA_ZERO, WEIGHT_SCALE = 4 / 128, 128, 5 / 128

Array = NDArray[Any]


def product_model(kernel: str, data: NDArray[np.float32], weights: NDArray[np.float32]) -> tuple[bytes, Array]:
    """Return `data` times the constant weights in fp32, a `gemm` or a `convolution` padded by 1, and what it takes."""
    return _model(data, [_product(kernel, "data", "weights", "product")], {"weights": weights}), data


def int8_model(kernel: str, data: NDArray[np.float32], weights: NDArray[np.float32]) -> tuple[bytes, Array]:
    """Return the same product of the operands in 8 bits, with its result in 8 bits; and what it takes."""
    from onnx import helper

    eight, kept, scale = in_eight_bits(data, weights)
    nodes = [
        helper.make_node("DequantizeLinear", ["data", "data_scale", "zero"], ["data_wide"]),
        helper.make_node("DequantizeLinear", ["weights", "weights_scale", "weights_zero"], ["weights_wide"]),
        _product(kernel, "data_wide", "weights_wide", "wide"),
        helper.make_node("QuantizeLinear", ["wide", "scale", "zero"], ["product"]),
    ]
    scales = {"data_scale": DATA_SCALE, "weights_scale": WEIGHT_SCALE, "scale": scale}
    constants = {name: np.array(value, np.float32) for name, value in scales.items()}
    zeros = {"zero": np.array(DATA_ZERO, np.uint8), "weights_zero": np.array(0, np.int8)}
    return _model(eight, nodes, {"weights": kept, **constants, **zeros}), eight


def in_eight_bits(
    data: NDArray[np.float32], weights: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.int8], float]:
    """Return both operands in 8 bits, and the step of their product: 4 deviations of its sums, as of the data."""
    eight = np.clip(np.round(data / DATA_SCALE) + DATA_ZERO, 0, 255).astype(np.uint8)
    kept = np.clip(np.round(weights / WEIGHT_SCALE), -127, 127).astype(np.int8)
    length = weights[0].size if weights.ndim > 2 else len(weights)
    return eight, kept, float(np.sqrt(length)) * DATA_SCALE


def _product(kernel: str, data: str, weights: str, result: str) -> onnx.NodeProto:
    from onnx import helper

    if kernel == "gemm":
        return helper.make_node("MatMul", [data, weights], [result])
    return helper.make_node("Conv", [data, weights], [result], pads=[1, 1, 1, 1])


def _model(data: Array, nodes: Sequence[onnx.NodeProto], constants: dict[str, Array]) -> bytes:
    """Return a model that takes such data and gives `product`, of the same type."""
    from onnx import helper, numpy_helper

    kind = helper.np_dtype_to_tensor_dtype(data.dtype)
    given = helper.make_tensor_value_info("data", kind, data.shape)
    product = helper.make_tensor_value_info("product", kind, None)
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "product", [given], [product], stored)
    # Old versions that every runtime of the last years reads; none of the operations has changed since.
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content
