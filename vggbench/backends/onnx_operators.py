"""Operators for ONNX's own reference evaluator: products as hardware makes them, and one that onnx 1.23 gets wrong.

Imports onnx inside its functions. A convolution or matrix product of fp16 or bf16 multiplies and sums in fp32, adds
the bias there, and rounds once, to the type of its input: products of two such numbers are exact in fp32, and
accelerators accumulate in it. onnx's own sum in the type itself, one rounding a term, where numpy does so, and take
minutes over what takes these seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx.reference.op_run import OpRun

ACCUMULATION = "fp32"  # of the products; fp64 where their operands are


def operators() -> list[type[OpRun]]:
    """Return the operators that take the place of onnx's own."""
    return [_convolution(), _general_product(), _product(), _max_pool(), local_response_norm()]


def local_response_norm() -> type[OpRun]:
    """Return the operator LRN as the standard has it: onnx 1.23's own stops after as many channels as there are images.

    `x / (bias + alpha / size * s)^beta`, where s sums the squares of the channels from `floor((size - 1) / 2)` before
    to `ceil((size - 1) / 2)` after.
    """
    from onnx.reference.op_run import OpRun

    class LRN(OpRun):
        def _run(self, x: NDArray[Any], *, alpha: float, beta: float, bias: float, size: int) -> tuple[NDArray[Any]]:
            before = (size - 1) // 2
            padded = np.pad(x**2, ((0, 0), (before, size - 1 - before), (0, 0), (0, 0)))
            squares = sum(padded[:, first : first + x.shape[1]] for first in range(size))
            return (x / (bias + alpha / size * squares) ** beta,)

    return LRN


def _wide(values: NDArray[Any]) -> NDArray[Any]:
    return values if values.dtype == np.float64 else values.astype(np.float32, copy=False)


def _convolution() -> type[OpRun]:
    from onnx.reference.op_run import OpRun
    from onnx.reference.ops.op_conv import _conv_implementation

    class Conv(OpRun):
        def _run(
            self, x: NDArray[Any], w: NDArray[Any], b: NDArray[Any] | None = None, **attributes: Any
        ) -> tuple[NDArray[Any]]:
            bias = None if b is None else _wide(b)
            if _is_plain(x, attributes):
                result = _convolve(_wide(x), _wide(w), attributes["pads"], attributes["strides"])
                result = result if bias is None else result + bias[:, None, None]
            else:
                result = _conv_implementation(_wide(x), _wide(w), bias, **attributes)  # type: ignore[no-untyped-call]
            return (result.astype(x.dtype),)

    return Conv


def _is_plain(x: NDArray[Any], attributes: dict[str, Any]) -> bool:
    """Say whether a window slides over a plane, and nothing else is to be heeded."""
    apart = attributes.get("dilations") or [1]
    padded = attributes["auto_pad"] in (None, "NOTSET")
    return x.ndim == 4 and padded and set(apart) == {1} and attributes.get("group", 1) == 1


def _windows(
    x: NDArray[Any], kernel: Sequence[int], pads: Sequence[int] | None, strides: Sequence[int] | None, fill: float
) -> NDArray[Any]:
    """Return the windows of a batch (N, C, H, W) as (N, C, rows, columns, *kernel), without copying them."""
    top, left, bottom, right = pads or (0, 0, 0, 0)
    down, along = strides or (1, 1)
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    return sliding_window_view(padded, tuple(kernel), axis=(2, 3))[:, :, ::down, ::along]


def _convolve(
    x: NDArray[Any], w: NDArray[Any], pads: Sequence[int] | None, strides: Sequence[int] | None
) -> NDArray[Any]:
    """Return the convolution by one matrix product an image: its windows alone take up to 115 MiB at 224 pixels."""
    windows = _windows(x, w.shape[2:], pads, strides, 0.0)
    result = np.empty((len(x), len(w), *windows.shape[2:4]), x.dtype)
    for image, output in zip(windows, result, strict=True):
        columns = image.transpose(0, 3, 4, 1, 2).reshape(w[0].size, -1)
        np.matmul(w.reshape(len(w), -1), columns, out=output.reshape(len(w), -1))
    return result


def _general_product() -> type[OpRun]:
    from onnx.reference.op_run import OpRun

    class Gemm(OpRun):
        def _run(
            self, a: NDArray[Any], b: NDArray[Any], c: NDArray[Any] | None = None, **attributes: Any
        ) -> tuple[NDArray[Any]]:
            left, right = _wide(a), _wide(b)
            left, right = left.T if attributes["transA"] else left, right.T if attributes["transB"] else right
            result = attributes["alpha"] * (left @ right)
            if c is not None:
                result += attributes["beta"] * _wide(c)
            return (result.astype(a.dtype),)

    return Gemm


def _product() -> type[OpRun]:
    from onnx.reference.op_run import OpRun

    class MatMul(OpRun):
        def _run(self, a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any]]:
            return ((_wide(a) @ _wide(b)).astype(a.dtype),)

    return MatMul


def _max_pool() -> type[OpRun]:
    from onnx.reference.ops import op_max_pool

    class MaxPool(op_max_pool.MaxPool):
        def _run(self, x: NDArray[Any], **attributes: Any) -> tuple[NDArray[Any], ...]:  # type: ignore[override]
            if not _is_plain(x, attributes) or attributes["ceil_mode"] or len(self.output) > 1:
                pooled: tuple[NDArray[Any], ...] = super()._run(x, **attributes)  # type: ignore[no-untyped-call]
                return pooled
            kernel = attributes["kernel_shape"]
            windows = _windows(_wide(x), kernel, attributes["pads"], attributes["strides"], -np.inf)
            return (windows.max(axis=(4, 5)).astype(x.dtype),)  # exact: every number is one of the type's

    return MaxPool
