"""What a network that is given as a file is held against: the file itself, evaluated in float64 without optimisation.

ONNX's own reference implementation does it, operator by operator in numpy as the standard defines them: no graph is
rewritten, no layers are fused, and every number of the file is widened to float64 first. That tells whether a backend
computes what the file says; whether the file says what was meant, nobody here can know.

Its own error, with `evaluate` on the files that `vggbench export` writes, relative to the signal and against PyTorch in
float64: 1.1e-14 for vgg16; 5.0e-7 for vgg16_bn, whose batch norms are folded into weights that the file has in fp32.
The eight images took 48 s of CPU time and 3.6 GiB for vgg16.

Imports onnx inside its functions, and not at all when the reference exists already.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact, check_files
from vggbench.artefacts.network_check import COUNTED_OPERATIONS
from vggbench.artefacts.network_file import load_graph
from vggbench.artefacts.onnx_prefix import moving_nodes
from vggbench.artefacts.store import Request, Written, prepare, tool_versions
from vggbench.backends.onnx_operators import local_response_norm
from vggbench.data.source import DataSource
from vggbench.errors import CellError
from vggbench.models.network_file import NetworkFile
from vggbench.parity.inputs import IMAGES, input_images
from vggbench.parity.metrics import RunningAmplification, amplification
from vggbench.parity.reference import REFERENCE_FILE

if TYPE_CHECKING:
    import onnx
    from onnx.reference.op_run import OpRun

SCHEME = 1  # raised when the same file and images would give other arrays
# What ONNX's reference implementation was seen to raise, or numpy below it, for a graph that it cannot evaluate.
_EVALUATION_ERRORS = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
_LONGEST_REASON = 300  # characters that fit a table


@dataclass(slots=True)
class Layer:
    """A convolution or matrix product, and what it was seen to do while the reference was computed.

    Attributes:
        node: of the graph.
        length: products that are summed into one output value.
        macs: of one image.
        spread: of its outputs.
    """

    node: onnx.NodeProto
    length: int = 0
    macs: int = 0
    spread: RunningAmplification = field(default_factory=RunningAmplification)

    @property
    def names(self) -> tuple[str, str, str]:
        """The two tensors that it multiplies, and its output."""
        return self.node.input[0], self.node.input[1], self.node.output[0]

    def see(self, data: NDArray[Any], weights: NDArray[Any], output: NDArray[Any], batch: int) -> None:
        """Take what the layer made of one batch."""
        if output.dtype != np.float64:
            raise TypeError(f"{self.node.op_type} {self.node.name} is evaluated in {output.dtype}, not in float64")
        if self.node.op_type == "Conv":
            self.length = math.prod(weights.shape[1:])
        else:
            transposed = any(attribute.name == "transA" and attribute.i for attribute in self.node.attribute)
            self.length = data.shape[0 if transposed else -1]
        self.macs = output.size * self.length // batch
        for part in output if output.shape[:1] == (batch,) else output[None]:
            self.spread.add(part)


def self_reference_artefact(
    network: NetworkFile, exports: Path, artefact: Artefact, source: DataSource | None = None
) -> Artefact:
    """Return the reference of a file: `inputs` (8, 3, S, S) fp32, `logits` (8, classes) float64, and its layers.

    `macs` (of one image), `reduction_lengths` and `amplifications` have a number a convolution or matrix product.
    Computed once and then found again. Raises `CellError` where the file cannot be evaluated or overflows.
    """
    inputs = input_images(network, exports, source)
    request = Request(
        kind="reference",
        format="reference",
        main=REFERENCE_FILE,
        spec=network,
        precision="fp64",
        parent=artefact.sha256,
        material={
            "onnx": artefact.sha256,
            "inputs": hashlib.sha256(inputs.tobytes()).hexdigest(),
            "against": "itself",
            "scheme": SCHEME,
        },
    )
    return prepare(request, exports, lambda folder: _write(network, artefact, inputs, folder))


def _write(network: NetworkFile, artefact: Artefact, inputs: NDArray[np.float32], folder: Path) -> Written:
    check_files(artefact)
    logits, layers = evaluate(network, artefact.path, inputs)
    expected = (len(inputs), network.num_classes)
    if logits.shape != expected:
        raise CellError(f"{network.variant}: the reference's outputs have the shape {logits.shape}, not {expected}")
    if lost := int(np.count_nonzero(~np.isfinite(logits))):
        raise CellError(f"{network.variant}: {lost} of the reference's {logits.size} outputs are not finite")
    np.savez(
        folder / REFERENCE_FILE,
        inputs=inputs,
        logits=logits,
        macs=[layer.macs for layer in layers],
        reduction_lengths=[layer.length for layer in layers],
        amplifications=_amplifications(layers, logits),
    )
    size = network.input_size
    return Written(
        inputs=(("inputs", "float32", (IMAGES, 3, size, size)),),
        outputs=(("logits", "float64", expected),),
        tools=tool_versions("onnx", "numpy"),
    )


def _amplifications(layers: list[Layer], logits: NDArray[np.float64]) -> list[float]:
    """Return each layer's, as `tolerance` takes them: the last one is not below the logits'.

    A layer whose output is the same for all images (a branch that is switched off) has no signal to lose: its error
    reaches the output as a share of the norm, which is what the logits' amplification stands for.
    """
    whole = amplification(logits)
    found = [layer.spread.value if math.isfinite(layer.spread.value) else whole for layer in layers]
    return [*found[:-1], max(found[-1], whole)]


def evaluate(network: NetworkFile, path: Path, inputs: NDArray[np.float32]) -> tuple[NDArray[np.float64], list[Layer]]:
    """Return the file's output for each image in float64, and the layers that multiply and accumulate, in order."""
    try:
        return _evaluate(network, path, inputs)
    except _EVALUATION_ERRORS as error:
        text = " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
        raise CellError(f"{network.variant}: ONNX's reference implementation cannot evaluate it: {text}") from error


def _evaluate(network: NetworkFile, path: Path, inputs: NDArray[np.float32]) -> tuple[NDArray[np.float64], list[Layer]]:
    model = load_graph(path, with_data=True)
    return observe(model, network.input_name, network.output_name, network.batch_size or 1, inputs)


def observe(
    model: onnx.ModelProto, image: str, output: str, batch: int, inputs: NDArray[np.floating]
) -> tuple[NDArray[np.float64], list[Layer]]:
    """Return a graph's output for each of its inputs in float64, and its products, seen so; it uses up the graph."""
    layers = [Layer(node) for node in moving_nodes(model.graph, image) if node.op_type in COUNTED_OPERATIONS]
    compute = evaluator(model, [output, *(name for layer in layers for name in layer.names)])
    parts = []
    for indices in np.resize(np.arange(len(inputs)), (-(-len(inputs) // batch), batch)):
        seen = compute({image: inputs[indices]})
        for layer in layers:
            data, weights, made = (seen[name] for name in layer.names)
            layer.see(data, weights, made, batch)
        parts.append(seen[output])
    return np.concatenate(parts)[: len(inputs)], layers


def evaluator(
    model: onnx.ModelProto, names: Sequence[str], operators: Sequence[type[OpRun]] = ()
) -> Callable[[Mapping[str, Any]], dict[str, NDArray[Any]]]:
    """Return a function of a graph's inputs that gives the values of those names, in float64; it uses up the graph.

    `operators` are used in place of ONNX's own of the same name. Stored weights are dequantised once.
    """
    from onnx.reference import ReferenceEvaluator

    own = [local_response_norm(), *operators]
    constants = _take_constants(model.graph)
    _take_settled(model, constants, own)
    computer = ReferenceEvaluator(model, new_ops=own)

    def compute(inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        feeds = constants | {name: _widened(value) for name, value in inputs.items()}
        return dict(zip(names, computer.run(names, feeds), strict=True))

    return compute


def _take_constants(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    """Take the constants out of a graph and return them by name, every float in them and in the graph widened."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    constants = {tensor.name: _widened(onnx.numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    del graph.initializer[:]
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in _floats():
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        if node.op_type == "Constant":
            (values,) = ReferenceEvaluator(node).run(None, {})
            constants[node.output[0]] = _widened(np.asarray(values))
        else:
            graph.node.append(_without_narrowing(node))
    return constants


def _take_settled(model: onnx.ModelProto, constants: dict[str, NDArray[Any]], operators: list[type[OpRun]]) -> None:
    """Take the dequantisers of stored numbers out of a graph, and add what they make to its constants."""
    from onnx.reference import ReferenceEvaluator

    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            computer = ReferenceEvaluator(node, new_ops=operators)
            (values,) = computer.run(None, {name: constants[name] for name in node.input})
            constants[node.output[0]] = np.asarray(values)
            del constants[node.input[0]]
        else:
            model.graph.node.append(node)


def _floats() -> tuple[int, ...]:
    import onnx

    return onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16


def _widened(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.float64) if values.dtype.name in ("float16", "bfloat16", "float32") else values


def _without_narrowing(node: onnx.NodeProto) -> onnx.NodeProto:
    """Let a node that names a float type make float64."""
    import onnx

    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i in _floats():
            attribute.i = onnx.TensorProto.DOUBLE
        if attribute.HasField("t") and attribute.t.data_type in _floats():
            attribute.t.CopyFrom(onnx.numpy_helper.from_array(_widened(onnx.numpy_helper.to_array(attribute.t))))
    return node
