"""What an engine really computes in, read from the list of its final layers: as the builder logs it, or an inspector.

Standard library only. Each layer of an engine says which nodes of the ONNX file it is made of, the types of its inputs
and outputs, and the constants that it holds: one that names a convolution or a linear layer, and holds as many numbers
as that has weights, is where it multiplies, and multiplies in the type of these and of its input.

It is no formality: TensorRT for RTX 1.7.1 runs a convolution of an fp16 file that is fp32, between a cast to it and one
back, in fp16, strongly typed or not.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vggbench.errors import ExportError
from vggbench.models.layers import Layer

# As engines call them; products of fp32 numbers that are rounded to TF32 are told by the name of their kernel.
TYPES = {"fp32": "Float", "tf32": "TF32", "fp16": "Half", "bf16": "BFloat16", "int8": "Int8", "fp8": "FP8"}
LEAST_SHARE = 0.95  # of a network's MACs in the type asked for, as for a row of a report
_NO_WORK = {"shape_call"}  # kinds of layers that touch no data
# Kinds of layers, and names of kernels, that multiply: of one that lists no weights, its input's type is the proof.
_MULTIPLIES = re.compile(r"conv|correlation|gemm|gemv|matri?xmul|matmul|fprop|cutlass|xmma", re.IGNORECASE)
_LAYER = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], Constants: \[(?P<constants>.*?)\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>[^,]*)(?P<rest>.*)"
)
_TENSOR = re.compile(r"Dimensions: \[(?P<dimensions>[-\d,]*)\].*?Datatype: (?P<type>\w+)")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Tensor:
    """Element type, and numbers in it; a free dimension counts as one."""

    type: str
    size: int


@dataclass(frozen=True, slots=True)
class EngineLayer:
    """A layer of the finished engine.

    Attributes:
        tactic: the kernel that runs it; empty where none is named.
        nodes: the ONNX nodes that it is made of.
    """

    name: str
    kind: str
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    tactic: str
    nodes: frozenset[str]


def read_layers(text: str) -> list[EngineLayer]:
    """Return the layers of a builder's list; `ExportError` for one that is empty or of another form."""
    lines = text.partition("\n\n")[0].splitlines()[1:]
    found = [_LAYER.fullmatch(line) for line in lines]
    for line, layer in zip(lines, found, strict=True):
        if layer is None:
            raise ExportError(f"the builder's list of layers has a form that is not known: {line[:80]!r}")
    layers = [_layer(layer) for layer in found if layer is not None]
    if not layers:
        raise ExportError("the builder did not list the engine's layers: what it computes in cannot be proven")
    return layers


def _layer(found: re.Match[str]) -> EngineLayer:
    inputs, constants, outputs = (_tensors(found[name]) for name in ("inputs", "constants", "outputs"))
    tactic = found["tactic"].strip()
    return EngineLayer(found["name"], found["kind"], inputs, constants, outputs, tactic, nodes_of(found["rest"]))


def nodes_of(metadata: str) -> frozenset[str]:
    """Return the ONNX nodes that a layer's metadata names."""
    return frozenset(_NODE.findall(metadata))


def _tensors(text: str) -> tuple[Tensor, ...]:
    return tuple(_tensor(found) for found in _TENSOR.finditer(text))


def _tensor(found: re.Match[str]) -> Tensor:
    dimensions = [abs(int(number)) for number in found["dimensions"].split(",") if number]
    return Tensor(found["type"], math.prod(dimensions))


def census(layers: Iterable[EngineLayer]) -> dict[str, int]:
    """Return how many layers there are of each kind and type, as `correlation:Int8->Float`."""
    names = (f"{layer.kind}:{_types(layer.inputs)}->{_types(layer.outputs)}" for layer in layers if _works(layer))
    return dict(sorted(Counter(names).items()))


def _works(layer: EngineLayer) -> bool:
    return layer.kind not in _NO_WORK


def _types(tensors: Iterable[Tensor]) -> str:
    return "+".join(sorted({tensor.type for tensor in tensors}))


def product_weights(products: Iterable[Layer]) -> dict[str, int]:
    """Return how many weights each convolution and linear layer has, by its name."""
    return {layer.name: layer.parameters - layer.output_shape[1] for layer in products}


def product_types(layers: Sequence[EngineLayer], weights: Mapping[str, int]) -> dict[str, str]:
    """Return the type in which each of the network's products multiplies; of two types, both; empty if it is unseen.

    `weights` has the number of each product's weights, by its name.
    """
    found = {name: _products(layers, name, size) for name, size in weights.items()}
    return {name: "+".join(sorted({types for _layer, types in seen})) for name, seen in found.items()}


def product_layers(layers: Sequence[EngineLayer], weights: Mapping[str, int]) -> dict[str, EngineLayer | None]:
    """Return the layer in which each product multiplies, the first where there are several, None if it is unseen."""
    found = {name: _products(layers, name, size) for name, size in weights.items()}
    return {name: seen[0][0] if seen else None for name, seen in found.items()}


def _products(layers: Sequence[EngineLayer], name: str, size: int) -> list[tuple[EngineLayer, str]]:
    """Return the layers that a product is made in, each with the type that it multiplies in."""
    named = [layer for layer in layers if name in layer.nodes and layer.inputs]
    found = [
        (constant.size, layer, _types((layer.inputs[0], constant)))
        for layer in named
        for constant in layer.constants
        if constant.size >= size  # more where channels are padded
    ]
    if not found:
        named = [layer for layer in named if _MULTIPLIES.search(f"{layer.kind} {layer.tactic}")]
        return [(layer, _rounded(layer, layer.inputs[0].type)) for layer in named]
    # What pads the image for the first convolution can be larger than its weights, too.
    least = min(size for size, _layer, _types in found)
    return [(layer, _rounded(layer, types)) for size, layer, types in found if size == least]


def _rounded(layer: EngineLayer, types: str) -> str:
    """Return TF32 for numbers of fp32 that the layer's kernel rounds to it."""
    return TYPES["tf32"] if types == TYPES["fp32"] and "tf32" in layer.tactic.lower() else types


def check_types(found: Mapping[str, str], asked: Mapping[str, str], macs: Mapping[str, int]) -> float:
    """Return the share of the MACs in the type asked for; `ExportError` where it is less than `LEAST_SHARE`.

    All three by the product's name; `asked` has precisions.
    """
    wrong = [name for name in macs if found[name] != TYPES[asked[name]]]
    share = 1 - sum(macs[name] for name in wrong) / sum(macs.values())
    if share < LEAST_SHARE:
        most = max(wrong, key=lambda name: macs[name])
        raise ExportError(
            f"precision mismatch: {share:.0%} of the MACs are in the type asked for; {len(wrong)} of {len(macs)} "
            f"products are not, {most} ran in {found[most] or 'nothing that the list shows'} and not in "
            f"{TYPES[asked[most]]}"
        )
    return share
