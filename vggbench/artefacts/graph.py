"""A network's graph as torch's exporter sees it, named by the layers and without their weights.

Imports torch at module level, so nothing imports this at module level. Reads no weights: the exporter is handed
tensors of one repeated value that take no memory, so that the graph cannot depend on the weights (torch's optimiser
drops a bias that is 0 and merges equal tensors), and nothing is copied through it.
"""

from __future__ import annotations

import ast
import re
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vggbench.artefacts.onnx_check import BATCH, INPUT, PROBABILITIES, output_names
from vggbench.artefacts.onnx_form import NORM_PARTS
from vggbench.errors import ExportError
from vggbench.models.spec import IMAGE_CHANNELS, ModelSpec
from vggbench.models.weights import empty_module

if TYPE_CHECKING:
    import onnx_ir

SAMPLE_BATCH = 2  # not 1, which the exporter may take for a fixed size
NETWORK = "network."  # the prefix that the wrapper gives to every name
HIDDEN = "vggbench"  # a domain of operators that nobody knows
SCOPES = "pkg.torch.onnx.name_scopes"  # where the exporter notes the modules that a node comes from
# What a torch, onnxscript or onnx that do not fit each other raise, beside the exporter's own RuntimeErrors.
EXPORTER_FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ImportError)
_EXPORTER = threading.Lock()  # torch's keeps what it traces in variables of its modules: one at a time in a process
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class _Outputs(nn.Module):
    """Gives the network the outputs of its file: logits always, probabilities before them where they are asked for."""

    def __init__(self, network: nn.Module, with_probabilities: bool) -> None:
        super().__init__()
        self.network = network
        self.with_probabilities = with_probabilities

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        logits: Tensor = self.network.logits(x)  # type: ignore[operator]
        return (torch.softmax(logits, dim=1), logits) if self.with_probabilities else logits


class _BatchNormNode(nn.Module):
    """A batch norm in eval mode that stays one: the exporter's optimiser, which folds them, does not know it.

    It would rename the convolutions, too, and round what it folds twice.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.epsilon = norm.eps
        for name, tensor in norm.state_dict().items():
            if name in NORM_PARTS:
                self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        inputs = (x, self.weight, self.bias, self.running_mean, self.running_var)
        attributes: dict[str, Any] = {"epsilon": self.epsilon}
        return torch.onnx.ops.symbolic(
            f"{HIDDEN}::BatchNormalization", inputs, attributes, dtype=x.dtype, shape=x.shape
        )


def skeleton(spec: ModelSpec, *, fold_batch_norm: bool = True) -> nn.Module:
    """Return the network in eval mode, its parameters of the right shapes and no content; batch norms are left out."""
    network = empty_module(spec)
    for index, layer in enumerate(network.features):
        if isinstance(layer, nn.BatchNorm2d):
            network.features[index] = nn.Identity() if fold_batch_norm else _BatchNormNode(layer)
    hollow = {
        key: torch.full((), float(number)).expand(tensor.shape)
        for number, (key, tensor) in enumerate(network.state_dict().items(), start=1)
    }
    network.load_state_dict(hollow, assign=True)
    return network.eval().requires_grad_(False)


def trace(spec: ModelSpec, network: nn.Module, opset: int) -> onnx_ir.Model:
    """Return the graph of a skeleton, with layer names and nothing else that the exporter noted.

    Raises:
        ExportError: torch's exporter failed; the message is the first line of its own.
    """
    with _EXPORTER:
        model = _export(spec, network, opset)
    _rename(model.graph)
    _reveal(model)
    _strip(model)
    return model


def _export(spec: ModelSpec, network: nn.Module, opset: int) -> onnx_ir.Model:
    sample = torch.zeros(SAMPLE_BATCH, IMAGE_CHANNELS, spec.input_size, spec.input_size)
    try:
        program = torch.onnx.export(
            _Outputs(network, spec.outputs == PROBABILITIES).eval(),
            (sample,),
            dynamo=True,
            opset_version=opset,
            input_names=[INPUT],
            output_names=output_names(spec),
            dynamic_shapes=({0: torch.export.Dim(BATCH)},),
            verbose=False,
        )
    except EXPORTER_FAILURES as error:
        raise ExportError(f"torch {torch.__version__} could not export {spec.variant}: {_first_line(error)}") from error
    assert program is not None
    return program.model


def _first_line(error: BaseException) -> str:
    """Return the first line of a message without colours, and that of its cause, which is where the reason stands."""
    lines = [next(iter(ANSI.sub("", str(each)).strip().splitlines()), type(each).__name__) for each in _causes(error)]
    return " <- ".join(dict.fromkeys([lines[0], lines[-1]]))


def _causes(error: BaseException) -> list[BaseException]:
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    return chain


def _rename(graph: onnx_ir.Graph) -> None:
    """Name every node and the value it makes after its layer; a layer's further nodes get a number."""
    for value in list(graph.initializers.values()):
        value.name = (value.name or "").removeprefix(NETWORK)
    kept = {value.name for value in (*graph.inputs, *graph.outputs)}
    seen: Counter[str] = Counter()
    for node in graph:
        layer = _layer(node)
        node.name = f"{layer}/{seen[layer]}" if seen[layer] else layer
        seen[layer] += 1
        for value in node.outputs:
            if value.name not in kept:
                value.name = node.name


def _layer(node: onnx_ir.Node) -> str:
    """Return the name of the module that a node comes from, its operation's where that is the whole network."""
    scopes = ast.literal_eval(node.metadata_props.get(SCOPES, "[]"))
    innermost = scopes[-2].removeprefix(NETWORK) if len(scopes) > 1 else ""
    return innermost if innermost and innermost != NETWORK.rstrip(".") else node.op_type.lower()


def _reveal(model: onnx_ir.Model) -> None:
    """Give the nodes that were hidden from the optimiser their place among ONNX's operators."""
    for node in model.graph:
        node.domain = "" if node.domain == HIDDEN else node.domain
    model.opset_imports.pop(HIDDEN, None)


def _strip(model: onnx_ir.Model) -> None:
    """Remove what the exporter noted for debugging: it holds the paths of source files."""
    graph = model.graph
    values = [*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    for noted in (model, graph, *graph, *values):
        noted.metadata_props.clear()
        noted.doc_string = None
