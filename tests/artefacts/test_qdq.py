"""Grids against numbers worked out by hand, and where quantisers are put."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from vggbench.artefacts.qdq import (
    BLOCK_ELEMENTS,
    INT32_LARGEST,
    activation_grid,
    insert_quantizers,
    least_scales,
    quantized_bias,
    quantized_rows,
    sources,
)

F32 = np.float32


@pytest.mark.parametrize(
    ("low", "high", "precision", "layout", "scale", "zero_point", "kind"),
    [
        (0.0, 5.1, "int8", "ort", 0.02, 0, "UINT8"),  # behind a ReLU: every number is of use
        (-1.0, 4.1, "int8", "ort", 0.02, 50, "UINT8"),
        (2.0, 5.1, "int8", "ort", 0.02, 0, "UINT8"),  # 0 is a number of the grid, also where no value is near
        (-5.1, -2.0, "int8", "ort", 0.02, 255, "UINT8"),
        (0.0, 2.54, "int8", "trt", 0.02, 0, "INT8"),  # the negative half is of no use, and TensorRT wants it
        (-2.54, 1.0, "int8", "trt", 0.02, 0, "INT8"),
        (-8.96, 1.0, "fp8", "trt", 0.02, 0, "FLOAT8E4M3FN"),
        (-8.96, 1.0, "fp8", "ort", 0.02, 0, "FLOAT8E4M3FN"),
        (0.0, 0.0, "int8", "ort", 1.0, 0, "UINT8"),  # a layer that is switched off
        (0.0, 0.0, "int8", "trt", 1.0, 0, "INT8"),
    ],
)
def test_grids(low, high, precision, layout, scale, zero_point, kind):
    grid = activation_grid(low, high, precision, layout)
    assert grid.scale == pytest.approx(scale, rel=1e-7)
    assert grid.scale == float(F32(grid.scale)), "as the file has it"
    assert (grid.zero_point, grid.type) == (zero_point, kind)


@given(st.floats(-1e6, 1e6, width=32), st.floats(0, 1e6, width=32))
def test_a_grid_reaches_both_ends_to_half_a_step(low: float, extent: float):
    grid = activation_grid(low, low + extent, "int8", "ort")
    least, most = ((number - grid.zero_point) * grid.scale for number in (0, 255))
    assert 0 <= grid.zero_point <= 255
    assert least <= min(low, 0) + 0.51 * grid.scale
    assert most >= max(low + extent, 0) - 0.51 * grid.scale


def rows_of(weights: np.ndarray, precision: str = "int8", least: np.ndarray | None = None):
    parts = list(quantized_rows(weights, precision, np.zeros(len(weights)) if least is None else least))
    return np.concatenate([scales for scales, _ in parts]), np.concatenate([numbers for _, numbers in parts])


def test_each_channel_has_its_own_scale():
    weights = np.array([[[[1.27]], [[-0.635]]], [[[0.0254]], [[-0.0127]]], [[[0.0]], [[0.0]]]], dtype=F32)
    scales, numbers = rows_of(weights)
    np.testing.assert_allclose(scales, [0.01, 0.0002, 1.0], rtol=1e-6)
    assert numbers.tolist() == [[127, -64], [127, -64], [0, 0]]  # -63.5 lies in the middle: to the even one
    assert numbers.dtype == np.int8


def test_fp8_has_steps_that_grow_with_the_number():
    weights = np.array([[448.0, 17.0, 19.0, -0.0009, 300.0]], dtype=F32)
    scales, numbers = rows_of(weights, "fp8")
    assert scales.tolist() == [1.0]
    assert numbers.astype(F32).tolist() == [[448.0, 16.0, 20.0, 0.0, 288.0]]  # the least number is 2^-9, 0.00195


def test_weights_are_rounded_to_half_a_step_whatever_the_block():
    weights = np.random.default_rng(0).standard_normal((5, BLOCK_ELEMENTS // 3), dtype=F32)
    scales, numbers = rows_of(weights)
    assert np.abs(numbers * scales[:, None] - weights).max() <= 0.5001 * scales.max()
    assert (np.abs(numbers.astype(int)).max(axis=1) == 127).all()


def test_a_bias_is_in_units_of_the_product_and_fits():
    scales, numbers = quantized_bias(np.array([1.0, -0.25], dtype=F32), 0.5, np.array([0.25, 0.125], dtype=F32))
    assert (scales.tolist(), numbers.tolist()) == ([0.125, 0.0625], [8, -4])
    large = np.array([3.0], dtype=F32)
    least = least_scales(large, 1e-3)
    assert least == pytest.approx(3.0 / (INT32_LARGEST * 1e-3))
    tiny, _ = rows_of(np.array([[1e-12]], dtype=F32), least=least)  # its own scale would be too small for the bias
    scales, numbers = quantized_bias(large, 1e-3, tiny)
    np.testing.assert_allclose(scales * numbers.astype(np.float64), large, rtol=1e-6)


def chain() -> object:
    """Return a graph: convolution, ReLU, pool, reshape, product."""
    nodes = [
        helper.make_node("Conv", ["input", "c.w", "c.b"], ["c"], "c", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "r"),
        helper.make_node("MaxPool", ["r"], ["p"], "p", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"], "f"),
        helper.make_node("Gemm", ["f", "g.w", "g.b"], ["logits"], "g", transB=1),
    ]
    zeros = {"c.w": (4, 3, 3, 3), "c.b": (4,), "g.w": (2, 16), "g.b": (2,)}
    return helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, (1, 3, 4, 4))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 2))],
        [numpy_helper.from_array(np.zeros(shape, dtype=F32), name) for name, shape in zeros.items()],
    )


def test_what_is_rounded_in_each_layout_and_whose_range_it_has():
    assert sources(chain(), "ort") == {"input": "input", "r": "r", "p": "r", "f": "r"}
    assert sources(chain(), "trt") == {"input": "input", "f": "r"}


def test_quantisers_stand_behind_tensors_and_before_weights():
    graph = chain()
    grid = activation_grid(0, 1, "int8", "ort")
    insert_quantizers(graph, {"input": grid, "f": grid}, {"c.w", "c.b", "g.w"})
    assert [node.op_type for node in graph.node] == [
        *("QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv", "Relu", "MaxPool"),
        *("Flatten", "QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Gemm"),
    ]
    products = {node.name: list(node.input) for node in graph.node if node.op_type in ("Conv", "Gemm")}
    assert products == {"c": ["input/dequantized", "c.w", "c.b"], "g": ["f/dequantized", "g.w", "g.b"]}
    weight = next(node for node in graph.node if node.output[0] == "c.w")
    assert (list(weight.input), weight.attribute[0].i) == (["c.w/quantized", "c.w/scale", "c.w/zero"], 0)
