"""Damage to a network, the kinds that exporters and backends do, each as a change to the chain of its layers.

A chain is the list of modules that a VGG runs in order. A mutation returns a changed chain, which shares every
untouched module with the original (so that scoring can start at the first change), or None where the network has no
place for it. Nothing is changed in place.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from vggbench.models.spec import ModelSpec
from vggbench.models.vgg import VGG, AdaptivePool7
from vggbench.models.weights import build_module

Chain = list[nn.Module]
Mutation = Callable[[Chain, ModelSpec], Chain | None]
Change = Callable[..., nn.Module | None]

FIRST, MIDDLE, LAST = 0.0, 0.5, 1.0


class Apply(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def chain_of(network: VGG) -> Chain:
    """Return the layers in order, with ReLUs that leave their input alone."""
    network.requires_grad_(False)
    chain = [*network.features, network.avgpool, nn.Flatten(), *network.classifier]
    return [nn.ReLU() if isinstance(layer, nn.ReLU) else layer for layer in chain]


def replaced(layer: nn.Module, **tensors: Tensor) -> nn.Module:
    """Return a copy of the layer that shares all tensors but these."""
    twin = copy.copy(layer)
    twin._parameters, twin._buffers = dict(layer._parameters), dict(layer._buffers)
    for name, tensor in tensors.items():
        table = twin._parameters if name in twin._parameters else twin._buffers
        table[name] = nn.Parameter(tensor, requires_grad=False) if table is twin._parameters else tensor
    return twin


def positions(chain: Chain, kind: type[nn.Module] | tuple[type[nn.Module], ...]) -> list[int]:
    return [index for index, layer in enumerate(chain) if isinstance(layer, kind)]


def pick(found: list[int], place: float) -> int:
    return found[round(place * (len(found) - 1))]


def at(kind: type[nn.Module], place: float, change: Change) -> Mutation:
    """Change the layer of a kind at a place: first, middle or last."""

    def mutate(chain: Chain, spec: ModelSpec) -> Chain | None:
        found = positions(chain, kind)
        changed = change(chain[pick(found, place)]) if found else None
        return None if changed is None else [*chain[: (i := pick(found, place))], changed, *chain[i + 1 :]]

    return mutate


def every(kind: type[nn.Module], change: Change) -> Mutation:
    """Change every layer of a kind."""

    def mutate(chain: Chain, spec: ModelSpec) -> Chain | None:
        if not positions(chain, kind):
            return None
        return [change(layer) if isinstance(layer, kind) else layer for layer in chain]

    return mutate


def before(function: Callable[[Tensor], Tensor]) -> Mutation:
    return lambda chain, spec: [Apply(function), *chain]


def after(function: Callable[[Tensor], Tensor]) -> Mutation:
    return lambda chain, spec: [*chain, Apply(function)]


def without(kind: type[nn.Module], place: float) -> Mutation:
    """Leave out one layer of a kind."""

    def mutate(chain: Chain, spec: ModelSpec) -> Chain | None:
        found = positions(chain, kind)
        return [*chain[: (i := pick(found, place))], *chain[i + 1 :]] if found else None

    return mutate


def square(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.shape[0] == layer.weight.shape[1]


def block_skipped(chain: Chain, spec: ModelSpec) -> Chain | None:
    """Leave out the last convolution with as many channels in as out, up to and with its ReLU."""
    found = [index for index in positions(chain, nn.Conv2d) if square(chain[index])]
    if not found:
        return None
    end = next(index for index in positions(chain, nn.ReLU) if index > found[-1])
    return [*chain[: found[-1]], *chain[end + 1 :]]


def hidden_layer_skipped(chain: Chain, spec: ModelSpec) -> Chain | None:
    middle = positions(chain, nn.Linear)[1]
    return [*chain[:middle], *chain[middle + 2 :]]


def equal_layers_exchanged(chain: Chain, spec: ModelSpec) -> Chain | None:
    """Exchange the two last convolutions of one shape: what sorting layers by name as text does."""
    convolutions = positions(chain, nn.Conv2d)
    for left, right in zip(convolutions[-2::-1], convolutions[:0:-1], strict=True):
        if chain[left].weight.shape == chain[right].weight.shape:
            changed = list(chain)
            changed[left], changed[right] = chain[right], chain[left]
            return changed
    return None


def other_seed(chain: Chain, spec: ModelSpec) -> Chain | None:
    return chain_of(build_module(dataclasses.replace(spec, seed=spec.seed + 1)))


def one_layer_of_other_seed(chain: Chain, spec: ModelSpec) -> Chain | None:
    index = pick(positions(chain, nn.Conv2d), MIDDLE)
    layer = chain[index]
    generator = torch.Generator().manual_seed(1)
    weight = torch.empty(layer.weight.shape).normal_(generator=generator) * layer.weight.std()
    return [*chain[:index], replaced(layer, weight=weight), *chain[index + 1 :]]


def hidden_units_renamed(chain: Chain, spec: ModelSpec) -> Chain | None:
    """Permute hidden units and their consumers alike: the same function, summed in another order."""
    first, second = positions(chain, nn.Linear)[:2]
    changed, back = list(chain), torch.arange(chain[first].out_features).flip(0)
    changed[first] = replaced(chain[first], weight=chain[first].weight[back], bias=chain[first].bias[back])
    changed[second] = replaced(chain[second], weight=chain[second].weight[:, back])
    return changed


def swap(tensor: Tensor, one: int = 0, other: int = 1, dim: int = 0) -> Tensor:
    order = torch.arange(tensor.shape[dim])
    order[one], order[other] = other, one
    return tensor.index_select(dim, order)


def channels_swapped(layer: nn.Module) -> nn.Module:
    return replaced(layer, weight=swap(layer.weight), bias=swap(layer.bias))


def bias_dropped(layer: nn.Module) -> nn.Module:
    return replaced(layer, bias=torch.zeros_like(layer.bias))


def weightless(layer: nn.Module) -> nn.Module:
    return replaced(layer, weight=torch.zeros_like(layer.weight))


def one_weight_lost(layer: nn.Module) -> nn.Module:
    weight = layer.weight.clone()
    weight.view(-1)[weight.abs().argmax()] = 0
    return replaced(layer, weight=weight)


def rounded_to(dtype: torch.dtype) -> Change:
    return lambda layer: replaced(layer, weight=layer.weight.to(dtype).float())


def kernel_flipped(layer: nn.Module) -> nn.Module | None:
    return replaced(layer, weight=layer.weight.flip(2, 3)) if layer.kernel_size > (1, 1) else None


def kernel_transposed(layer: nn.Module) -> nn.Module | None:
    return replaced(layer, weight=layer.weight.mT) if layer.kernel_size > (1, 1) else None


def edges_replicated(layer: nn.Module) -> nn.Module | None:
    """Pad with the edge's own values instead of zeros."""
    if layer.kernel_size == (1, 1):
        return None
    twin = replaced(layer)
    twin.padding, twin.padding_mode = (0, 0), "zeros"
    return nn.Sequential(nn.ReplicationPad2d(1), twin)


def mean_off(layer: nn.Module) -> nn.Module:
    return replaced(layer, running_mean=layer.running_mean * 1.01)


def variance_unsquared(layer: nn.Module) -> nn.Module:
    """Divide by the variance where its root belongs."""
    return replaced(layer, running_var=layer.running_var**2)


def scale_dropped(layer: nn.Module) -> nn.Module:
    return replaced(layer, weight=torch.ones_like(layer.weight))


def wrong_epsilon(layer: nn.Module) -> nn.Module:
    twin = replaced(layer)
    twin.eps = 1e-3  # Keras's, where PyTorch's is 1e-5
    return twin


def windows_off_by_one(layer: nn.Module) -> nn.Module:
    return Apply(lambda x: functional.max_pool2d(functional.pad(x, (1, -1, 1, -1), value=-torch.inf), 2))


def bins_off_by_one(layer: nn.Module) -> nn.Module:
    """Let every bin of the adaptive pool that can be end one pixel later."""
    size = layer.feature_size
    matrix = torch.zeros(7, size)
    for row in range(7):
        first, end = row * size // 7, min(size, -(-(row + 1) * size // 7) + 1)
        matrix[row, first:end] = 1 / (end - first)
    return Apply(lambda x: matrix.to(x) @ x @ matrix.to(x).mT)


def average_instead(layer: nn.Module) -> nn.Module:
    return nn.AvgPool2d(2)


def other_reading(layer: nn.Module) -> nn.Module:
    twin = replaced(layer)
    twin.alpha = layer.alpha / layer.size
    return twin


def nhwc_given(x: Tensor) -> Tensor:
    """Read the bytes of an NHWC batch as if they were NCHW."""
    return x.permute(0, 2, 3, 1).reshape(x.shape)


def left_on(layer: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    return Apply(lambda x: 2 * x * torch.empty(x.shape).bernoulli_(0.5, generator=generator).to(x))


MUTATIONS: dict[str, Mutation] = {
    "image repeated for all": before(lambda x: x[:1].expand_as(x)),
    "input ignored": before(torch.zeros_like),
    "NHWC given for NCHW": before(nhwc_given),
    "BGR given for RGB": before(lambda x: x.flip(1)),
    "image rows and columns exchanged": before(lambda x: x.mT),
    "weights of another seed": other_seed,
    "weights of another seed, one layer": one_layer_of_other_seed,
    "bias dropped, first convolution": at(nn.Conv2d, FIRST, bias_dropped),
    "bias dropped, last convolution": at(nn.Conv2d, LAST, bias_dropped),
    "bias dropped, logits": at(nn.Linear, LAST, bias_dropped),
    "two channels swapped, first convolution": at(nn.Conv2d, FIRST, channels_swapped),
    "two channels swapped, last convolution": at(nn.Conv2d, LAST, channels_swapped),
    "two hidden units swapped": at(nn.Linear, FIRST, channels_swapped),
    "two classes swapped": at(nn.Linear, LAST, channels_swapped),
    "block skipped": block_skipped,
    "hidden layer skipped": hidden_layer_skipped,
    "equal layers exchanged": equal_layers_exchanged,
    "ReLU dropped, first": without(nn.ReLU, FIRST),
    "ReLU dropped, middle": without(nn.ReLU, MIDDLE),
    "ReLU dropped, last": without(nn.ReLU, LAST),
    "kernel flipped": at(nn.Conv2d, MIDDLE, kernel_flipped),
    "kernel transposed": at(nn.Conv2d, MIDDLE, kernel_transposed),
    "edges replicated": at(nn.Conv2d, MIDDLE, edges_replicated),
    "one weight lost": at(nn.Conv2d, MIDDLE, one_weight_lost),
    "convolutions' weights rounded to bf16": every(nn.Conv2d, rounded_to(torch.bfloat16)),
    "one layer's weights rounded to fp16": at(nn.Conv2d, LAST, rounded_to(torch.float16)),
    "batch norm's mean off by 1 %, first": at(nn.BatchNorm2d, FIRST, mean_off),
    "batch norm's mean off by 1 %, middle": at(nn.BatchNorm2d, MIDDLE, mean_off),
    "batch norm's mean off by 1 %, last": at(nn.BatchNorm2d, LAST, mean_off),
    "batch norm's epsilon wrong": every(nn.BatchNorm2d, wrong_epsilon),
    "batch norm's epsilon wrong, last": at(nn.BatchNorm2d, LAST, wrong_epsilon),
    "batch norm's shift dropped": at(nn.BatchNorm2d, MIDDLE, bias_dropped),
    "batch norm's scale dropped": at(nn.BatchNorm2d, MIDDLE, scale_dropped),
    "batch norm by the variance": at(nn.BatchNorm2d, MIDDLE, variance_unsquared),
    "response norm dropped": without(nn.LocalResponseNorm, FIRST),
    "response norm's other reading": at(nn.LocalResponseNorm, FIRST, other_reading),
    "max pool's windows off by one, first": at(nn.MaxPool2d, FIRST, windows_off_by_one),
    "max pool's windows off by one, last": at(nn.MaxPool2d, LAST, windows_off_by_one),
    "average pool for max pool": at(nn.MaxPool2d, LAST, average_instead),
    "adaptive pool's bins off by one": at(AdaptivePool7, LAST, bins_off_by_one),
    "flattened as NHWC": at(nn.Flatten, LAST, lambda layer: Apply(lambda x: x.permute(0, 2, 3, 1).flatten(1))),
    "dropout left on": at(nn.Dropout, LAST, left_on),
    "constant output": at(nn.Linear, LAST, weightless),
    "mean output": after(lambda x: x.mean(dim=0, keepdim=True).expand_as(x)),
    "classes reversed": after(lambda x: x.flip(1)),
    "images in another order": after(lambda x: x.roll(1, dims=0)),
    "probabilities for logits": after(lambda x: x.softmax(dim=1)),
    "output's sign": after(torch.neg),
}

# Damage to single units: where the images leave these switched off, the outputs are the same to the last bit.
LOCAL = {"two hidden units swapped", "one weight lost"}

# The same functions: scoring must find that out by itself.
EQUIVALENT: dict[str, Mutation] = {
    "dropout removed": without(nn.Dropout, FIRST),
    "ReLU applied twice": at(nn.ReLU, MIDDLE, lambda layer: nn.Sequential(layer, layer)),
    "hidden units renamed": hidden_units_renamed,
}
