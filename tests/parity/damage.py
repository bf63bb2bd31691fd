"""What damage is made of: where a chain is changed, and how a layer is; `mutations` has the list.

A mutation returns a changed chain, which shares every untouched module with the original (so that scoring can start at
the first change), or None where the network has no place for it. Nothing is changed in place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.parity.chain import Chain, Operation, chain_of, flat, replaced
from vggbench.models.spec import IMAGE_CHANNELS, ModelSpec
from vggbench.models.weights import build_module
from vggbench.parity.reference import IMAGES

Mutation = Callable[[Chain, ModelSpec], Chain | None]
Change = Callable[..., nn.Module | None]

FIRST, MIDDLE, LAST = 0.0, 0.5, 1.0


def taken(dim: int, order: Sequence[int]) -> Operation:
    """Take rows, channels, ... of a dimension in an order of one's own."""
    return Operation("Gather", lambda x, index: x.index_select(dim, index), torch.tensor(order), axis=dim)


def transposed(*order: int) -> Operation:
    return Operation("Transpose", lambda x: x.permute(order), perm=order)


def reshaped(*shape: int) -> Operation:
    return Operation("Reshape", lambda x, sizes: x.reshape(sizes.tolist()), torch.tensor(shape))


def multiplied(factor: float | Tensor) -> Operation:
    return Operation("Mul", torch.mul, torch.as_tensor(factor))


def averaged(dim: int, count: int) -> nn.Module:
    """Put the mean over a dimension in the place of each of its entries."""
    mean = Operation("ReduceMean", lambda x, dims: x.mean(dims.tolist(), keepdim=True), torch.tensor([dim]), keepdims=1)
    return nn.Sequential(mean, taken(dim, [0] * count))


def padded(start: int, end: int, torch_mode: str, mode: str) -> Operation:
    """Pad rows and columns alike."""
    pads = torch.tensor([0, 0, start, start, 0, 0, end, end])
    sides = (start, end) * 2
    return Operation("Pad", lambda x, _pads: functional.pad(x, sides, mode=torch_mode), pads, mode=mode)


def pooled(size: int, stride: int, start: int = 0) -> Operation:
    """Take the maximum of windows of which the first starts so many pixels before the image."""
    sides = (start, 0, start, 0)
    return Operation(
        "MaxPool",
        lambda x: functional.max_pool2d(functional.pad(x, sides, value=-torch.inf), size, stride),
        kernel_shape=(size, size),
        strides=(stride, stride),
        pads=(start, start, 0, 0),
    )


def positions(chain: Chain, kind: type[nn.Module] | tuple[type[nn.Module], ...]) -> list[int]:
    return [index for index, layer in enumerate(chain) if isinstance(layer, kind)]


def pick(found: list[int], place: float) -> int:
    return found[round(place * (len(found) - 1))]


def at(kind: type[nn.Module], place: float, change: Change) -> Mutation:
    """Change the layer of a kind at a place: first, middle or last."""

    def mutate(chain: Chain, spec: ModelSpec) -> Chain | None:
        found = positions(chain, kind)
        changed = change(chain[pick(found, place)]) if found else None
        return None if changed is None else flat([*chain[: (i := pick(found, place))], changed, *chain[i + 1 :]])

    return mutate


def every(kind: type[nn.Module], change: Change) -> Mutation:
    """Change every layer of a kind."""

    def mutate(chain: Chain, spec: ModelSpec) -> Chain | None:
        if not positions(chain, kind):
            return None
        return flat(change(layer) if isinstance(layer, kind) else layer for layer in chain)

    return mutate


def before(make: Callable[[ModelSpec], nn.Module]) -> Mutation:
    """Do something to the images."""
    return lambda chain, spec: flat([make(spec), *chain])


def after(make: Callable[[ModelSpec], nn.Module]) -> Mutation:
    """Do something to the logits."""
    return lambda chain, spec: flat([*chain, make(spec)])


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


def norm_after_activation(chain: Chain, spec: ModelSpec) -> Chain | None:
    found = positions(chain, nn.BatchNorm2d)
    if not found:
        return None
    changed, index = list(chain), pick(found, MIDDLE)
    changed[index], changed[index + 1] = chain[index + 1], chain[index]
    return changed


def dropout_left_on(chain: Chain, spec: ModelSpec) -> Chain | None:
    index = positions(chain, nn.Dropout)[-1]
    kept = torch.empty(IMAGES, spec.classifier_width).bernoulli_(0.5, generator=torch.Generator().manual_seed(0))
    return [*chain[:index], multiplied(2 * kept), *chain[index + 1 :]]


def bytes_read_otherwise(chain: Chain, spec: ModelSpec) -> Chain | None:
    """Give NHWC images where NCHW ones are read."""
    nchw = (-1, IMAGE_CHANNELS, spec.input_size, spec.input_size)
    return [transposed(0, 2, 3, 1), reshaped(*nchw), *chain]


def one_image_empty(chain: Chain, spec: ModelSpec) -> Chain | None:
    """Never write the outputs of one image."""
    written = torch.ones(IMAGES, 1)
    written[3] = 0
    return [*chain, multiplied(written)]


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


def rounded_to_8_bits(layer: nn.Module) -> nn.Module:
    """Round weights to 255 levels of one scale for the layer, as the plainest quantisation does."""
    step = layer.weight.abs().max() / 127
    return replaced(layer, weight=(layer.weight / step).round() * step)


def scaled(share: float) -> Change:
    return lambda layer: replaced(layer, weight=layer.weight * share)


def bias_doubled(layer: nn.Module) -> nn.Module:
    """Add it twice: once fused, once beside."""
    return replaced(layer, bias=layer.bias * 2)


def channel_dead(layer: nn.Module) -> nn.Module:
    alive = torch.ones(len(layer.bias))
    alive[0] = 0
    return replaced(layer, weight=(layer.weight.movedim(0, -1) * alive).movedim(-1, 0), bias=layer.bias * alive)


def input_channels_swapped(layer: nn.Module) -> nn.Module:
    return replaced(layer, weight=swap(layer.weight, dim=1))


def axes_exchanged(layer: nn.Module) -> nn.Module | None:
    """Read `(out, in)` as `(in, out)`."""
    return replaced(layer, weight=layer.weight.transpose(0, 1)) if square(layer) else None


def padded_otherwise(padding: Callable[[], nn.Module]) -> Change:
    """Pad before the convolution and not in it."""

    def change(layer: nn.Module) -> nn.Module | None:
        if layer.kernel_size == (1, 1):
            return None
        twin = replaced(layer)
        twin.padding = (0, 0)
        return nn.Sequential(padding(), twin)

    return change


def dilated(layer: nn.Module) -> nn.Module | None:
    if layer.kernel_size == (1, 1):
        return None
    twin = replaced(layer)
    twin.dilation = twin.padding = (2, 2)
    return twin


def mean_off(layer: nn.Module) -> nn.Module:
    return replaced(layer, running_mean=layer.running_mean * 1.01)


def variance_unsquared(layer: nn.Module) -> nn.Module:
    """Divide by the variance where its root belongs."""
    return replaced(layer, running_var=layer.running_var**2)


def scale_dropped(layer: nn.Module) -> nn.Module:
    return replaced(layer, weight=torch.ones_like(layer.weight))


def statistics_dropped(layer: nn.Module) -> nn.Module:
    mean, variance = torch.zeros_like(layer.running_mean), torch.ones_like(layer.running_var)
    return replaced(layer, running_mean=mean, running_var=variance)


def wrong_epsilon(layer: nn.Module) -> nn.Module:
    twin = replaced(layer)
    twin.eps = 1e-3  # Keras's, where PyTorch's is 1e-5
    return twin


def bins_off_by_one(layer: nn.Module) -> nn.Module:
    """Let every bin of the adaptive pool that can be end one pixel later."""
    size = layer.feature_size
    matrix = torch.zeros(7, size)
    for row in range(7):
        first, end = row * size // 7, min(size, -(-(row + 1) * size // 7) + 1)
        matrix[row, first:end] = 1 / (end - first)
    product = Operation("MatMul", torch.matmul, matrix.T.contiguous())
    turned = transposed(0, 1, 3, 2)
    return nn.Sequential(turned, product, turned, product)


def average_instead(layer: nn.Module) -> nn.Module:
    return Operation("AveragePool", lambda x: functional.avg_pool2d(x, 2), kernel_shape=(2, 2), strides=(2, 2))


def other_reading(layer: nn.Module) -> nn.Module:
    twin = replaced(layer)
    twin.alpha = layer.alpha / layer.size
    return twin
