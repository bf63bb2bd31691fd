"""A network as the list of layers that it runs in order: what is damaged, run in float64, and written as ONNX."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vggbench.models.vgg import VGG

Chain = list[nn.Module]
FLATTEN = "reshape"  # what the exported file calls it


class Operation(nn.Module):
    """A layer that is one ONNX operator on its input and constants, and the function that torch computes for it.

    Networks have none; damage is made of them, so that the same damage can be written into an exported file.
    """

    def __init__(self, kind: str, function: Callable[..., Tensor], *constants: Tensor, **attributes: Any) -> None:
        super().__init__()
        self.kind, self.function, self.constants, self.attributes = kind, function, constants, attributes

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *(each.to(x.dtype) if each.is_floating_point() else each for each in self.constants))


def chain_of(network: VGG) -> Chain:
    """Return the layers in order, each with its name in the exported file, and with ReLUs that leave their input alone.

    What a layer is, its name says as long as it is the very object; a copy that was changed has the name, too.
    """
    network.requires_grad_(False)
    parts = [("features", network.features), ("classifier", network.classifier)]
    features, classifier = (
        [_named(layer, f"{part}.{index}") for index, layer in enumerate(layers)] for part, layers in parts
    )
    return [*features, _named(network.avgpool, "avgpool"), _named(nn.Flatten(), FLATTEN), *classifier]


def _named(layer: nn.Module, name: str) -> nn.Module:
    named = nn.ReLU() if isinstance(layer, nn.ReLU) else layer
    named.name = name
    return named


def flat(chain: Iterable[nn.Module]) -> Chain:
    """Return the layers with those of a `Sequential` in its place."""
    return [part for layer in chain for part in (flat(layer) if isinstance(layer, nn.Sequential) else [layer])]


def replaced(layer: nn.Module, **tensors: Tensor) -> nn.Module:
    """Return a copy of the layer that shares all tensors but these."""
    twin = copy.copy(layer)
    twin._parameters, twin._buffers = dict(layer._parameters), dict(layer._buffers)
    for name, tensor in tensors.items():
        table = twin._parameters if name in twin._parameters else twin._buffers
        table[name] = nn.Parameter(tensor, requires_grad=False) if table is twin._parameters else tensor
    return twin


def run(chain: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Run layers one after the other."""
    with torch.inference_mode():
        for layer in chain:
            x = layer.eval()(x)
    return x


class ChainModule(nn.Module):
    """A chain as the module that the torch backend runs."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.chain = nn.ModuleList(chain)

    def logits(self, x: Tensor) -> Tensor:
        return run(self.chain, x)


def cast_products(chain: Chain, dtype: torch.dtype) -> Iterator[nn.Module]:
    """Yield the layers with convolutions and linear layers cast, as copies; batch norm keeps its statistics."""
    for layer in chain:
        is_product = isinstance(layer, nn.Conv2d | nn.Linear)
        yield copy.deepcopy(layer).to(dtype) if is_product and layer.weight.dtype != dtype else layer
