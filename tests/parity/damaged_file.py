"""A changed chain as a copy of the exported ONNX file, in which only what was changed differs.

Nodes and weights of untouched layers are the exported file's own; a changed layer's node and value have its name. The
exported data file is copied once, for all the damaged files after one another (readers refuse one with several links);
changed weights are written into the damaged file itself. Batch norms are folded in as the export does it, in float64.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import nn

from tests.parity.chain import Chain, Operation
from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.onnx_check import INPUT, LOGITS
from vggbench.models.vgg import LocalResponseNorm

DAMAGED_FILE = "damaged.onnx"


class ExportedFile:
    """The exported file of a chain, from which damaged copies are made, one at a time in the same place."""

    def __init__(self, artefact: Artefact, chain: Chain, folder: Path) -> None:
        self._original = {layer.name: (layer, _norm_at(chain, index + 1)) for index, layer in enumerate(chain)}
        self._model = onnx.load(artefact.path, load_external_data=False)
        self._weights = {tensor.name: tensor for tensor in self._model.graph.initializer}
        self.folder = folder
        self._copy = replace(artefact, folder=str(folder), main=DAMAGED_FILE, files={}, sha256="")
        for name in artefact.files:
            if name != artefact.main:
                shutil.copyfile(artefact.path.with_name(name), folder / name)

    def damaged(self, chain: Chain) -> Artefact:
        """Write the copy that computes a changed chain; it is no artefact of a store, only what a backend opens."""
        writer = _Writer(self._model, self._weights)
        steps = iter(range(len(chain)))
        for index in steps:
            layer, norm = chain[index], _norm_at(chain, index + 1)
            if self._untouched(layer, norm):
                writer.copy(layer.name)
            else:
                writer.write(layer, norm)
            if norm is not None and isinstance(layer, nn.Conv2d):
                next(steps)  # it is folded in
        self._copy.path.write_bytes(writer.model().SerializeToString())
        return self._copy

    def _untouched(self, layer: nn.Module, norm: nn.Module | None) -> bool:
        """Say whether the exported nodes of a layer's name compute it, and with it the batch norm that follows it."""
        if isinstance(layer, Operation):
            return False
        original, original_norm = self._original[layer.name]
        if isinstance(layer, nn.Conv2d):
            return layer is original and norm is original_norm
        has_content = isinstance(layer, nn.Linear | nn.BatchNorm2d | LocalResponseNorm)
        return (layer is original or not has_content) and not isinstance(layer, nn.BatchNorm2d)


class _Writer:
    """Puts nodes one after the other and collects the weights they use."""

    def __init__(self, model: onnx.ModelProto, weights: dict[str, onnx.TensorProto]) -> None:
        self._source, self._stored = model, weights
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._last, self._layer = INPUT, ""

    def copy(self, layer: str) -> None:
        """Add the exported nodes of a layer, with the exported weights; dropout and an empty pool have none."""
        nodes = [node for node in self._source.graph.node if node.name.split("/")[0] == layer]
        inside = {output: self._free(output) for node in nodes for output in node.output}
        before = self._last
        for node in nodes:
            self._weights.update({name: self._stored[name] for name in node.input if name in self._stored})
            twin = onnx.NodeProto()
            twin.CopyFrom(node)
            twin.input[:] = [name if name in self._stored else inside.get(name, before) for name in node.input]
            twin.output[:] = [inside[name] for name in node.output]
            twin.name, self._last = self._unique(layer), twin.output[0]
            self._nodes.append(twin)

    def _free(self, value: str) -> str:
        """Return a value's name, with the place of its node where it is taken; the last one is renamed at the end."""
        taken = {INPUT, LOGITS} | {output for node in self._nodes for output in node.output}
        return f"{len(self._nodes)}/{value}" if value in taken else value

    def _unique(self, layer: str) -> str:
        """Return a node's name, with a number where the layer has one already, as the export does it."""
        known = sum(node.name.split("/")[0] == layer for node in self._nodes)
        return f"{layer}/{known}" if known else layer

    def write(self, layer: nn.Module, norm: nn.Module | None) -> None:
        """Add a layer's own node; a batch norm that follows a convolution is folded into it."""
        self._layer = getattr(layer, "name", "")
        if isinstance(layer, Operation):
            self._node(layer.kind, [each.numpy() for each in layer.constants], **layer.attributes)
        elif isinstance(layer, nn.Conv2d):
            pads, strides, dilations = layer.padding * 2, layer.stride, layer.dilation
            self._node("Conv", _folded(layer, norm), pads=pads, strides=strides, dilations=dilations)
        elif isinstance(layer, nn.Linear):
            self._node("Gemm", [layer.weight.numpy(), layer.bias.numpy()], transB=1)
        elif isinstance(layer, nn.BatchNorm2d):
            tensors = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
            self._node("BatchNormalization", [tensor.numpy() for tensor in tensors], epsilon=layer.eps)
        elif isinstance(layer, LocalResponseNorm):
            self._node("LRN", [], size=layer.size, alpha=layer.alpha, beta=layer.beta, bias=layer.k)
        else:
            raise TypeError(f"no node is known for {layer}")

    def _node(self, kind: str, constants: list[np.ndarray], **attributes: Any) -> None:
        place = len(self._nodes)
        names = [f"{place}/constant{number}" for number in range(len(constants))]
        tensors = map(numpy_helper.from_array, map(np.ascontiguousarray, constants), names)
        self._weights.update(zip(names, tensors, strict=True))
        output = self._free(self._layer or f"{place}/{kind}")
        name = self._unique(self._layer) if self._layer else output
        self._nodes.append(helper.make_node(kind, [self._last, *names], [output], name=name, **attributes))
        self._last = output

    def model(self) -> onnx.ModelProto:
        """Return the copy: the nodes so far, between the exported file's input and logits."""
        model = onnx.ModelProto()
        model.CopyFrom(self._source)
        graph = model.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        self._nodes[-1].output[0] = LOGITS
        graph.node.extend(self._nodes)
        graph.initializer.extend(self._weights.values())
        return model


def _norm_at(chain: Chain, index: int) -> nn.Module | None:
    return chain[index] if index < len(chain) and isinstance(chain[index], nn.BatchNorm2d) else None


def _folded(layer: nn.Module, norm: nn.Module | None) -> list[np.ndarray]:
    """Return weight and bias of a convolution and the batch norm after it, rounded once."""
    weight, bias = layer.weight.double(), layer.bias.double()
    if norm is not None:
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = scale[:, None, None, None] * weight
        bias = scale * (bias - norm.running_mean.double()) + norm.bias.double()
    return [weight.float().numpy(), bias.float().numpy()]
