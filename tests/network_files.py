"""Small networks as ONNX files that no torch has written: with a residual branch, grouped, and damaged in every way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE, CLASSES, OPSET = 16, 5, 20
# Convolutions 7x7 stride 2, 3x3 grouped by 4, 1x1, then a linear layer: 8x8 outputs.
MACS = 64 * (8 * 3 * 49 + 8 * 2 * 9 + 16 * 8 + 16 * 8) + 16 * CLASSES
LENGTHS = [147, 18, 8, 8, 16]
PARAMETERS = (8 * 3 * 49 + 8) + (8 * 2 * 9) + 2 * 8 + (16 * 8) + (16 * 8 + 16) + (CLASSES * 16 + CLASSES)

Nodes = list[onnx.NodeProto]
Change = Callable[[onnx.ModelProto], Any]


def weights() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(7)

    def drawn(*shape: int) -> np.ndarray:
        spread = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        return (generator.standard_normal(shape) * spread).astype(np.float32)

    return {
        "stem.w": drawn(8, 3, 7, 7),
        "stem.b": drawn(8),
        "grouped.w": drawn(8, 2, 3, 3),
        "norm.scale": 1 + drawn(8),
        "norm.shift": drawn(8),
        "norm.mean": drawn(8),
        "norm.var": 1 + drawn(8) ** 2,
        "wide.w": drawn(16, 8, 1, 1),
        "short.w": drawn(16, 8, 1, 1),
        "short.b": drawn(16),
        "last.w": drawn(CLASSES, 16),
        "last.b": drawn(CLASSES),
    }


def nodes() -> Nodes:
    norm = ["grouped", "norm.scale", "norm.shift", "norm.mean", "norm.var"]
    return [
        helper.make_node("Conv", ["pixels", "stem.w", "stem.b"], ["stem"], strides=[2, 2], pads=[3, 3, 3, 3]),
        helper.make_node("Relu", ["stem"], ["begin"]),
        helper.make_node("Conv", ["begin", "grouped.w"], ["grouped"], group=4, pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", norm, ["normed"]),
        helper.make_node("Relu", ["normed"], ["middle"]),
        helper.make_node("Conv", ["middle", "wide.w"], ["long"]),
        helper.make_node("Conv", ["begin", "short.w", "short.b"], ["short"]),
        helper.make_node("Add", ["long", "short"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["end"]),
        helper.make_node("GlobalAveragePool", ["end"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "last.w", "last.b"], ["scores"], transB=1),
    ]


def residual(batch: int | str = "n", side: int | str = SIZE) -> onnx.ModelProto:
    """Return the network: images `(batch, 3, side, side)` called `pixels` to `scores`."""
    image = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, side, side])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, CLASSES])
    stored = [numpy_helper.from_array(value, name) for name, value in weights().items()]
    graph = helper.make_graph(nodes(), "residual", [image], [scores], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def write(path: Path, model: onnx.ModelProto | None = None, change: Change | None = None) -> Path:
    """Write a network, the residual one unless another is given, after a change to it."""
    model = model or residual()
    if change is not None:
        change(model)
    path.write_bytes(model.SerializeToString())
    return path


def write_apart(path: Path, data: str = "weights.bin", change: Change | None = None) -> Path:
    """Write the residual network with its weights in a file beside it."""
    onnx.save(residual(), path, save_as_external_data=True, location=data, size_threshold=0)
    if change is not None:
        model = onnx.load(path, load_external_data=False)
        change(model)
        path.write_bytes(model.SerializeToString())
    return path


def exact_scores(images: np.ndarray) -> np.ndarray:
    """Return what the residual network computes, by PyTorch in float64."""
    import torch
    from torch.nn import functional

    known = {name: torch.from_numpy(value.astype(np.float64)) for name, value in weights().items()}
    begin = torch.relu(
        functional.conv2d(torch.from_numpy(images).double(), known["stem.w"], known["stem.b"], stride=2, padding=3)
    )
    grouped = functional.conv2d(begin, known["grouped.w"], padding=1, groups=4)
    parameters = (known[f"norm.{name}"] for name in ("mean", "var", "scale", "shift"))
    middle = torch.relu(functional.batch_norm(grouped, *parameters, eps=1e-5))
    total = functional.conv2d(middle, known["wide.w"]) + functional.conv2d(begin, known["short.w"], known["short.b"])
    pooled = torch.relu(total).mean(dim=(2, 3))
    return functional.linear(pooled, known["last.w"], known["last.b"]).numpy()
