"""Weights drawn from a seed: the published initialisation, and one in which every parameter can be seen.

Imports torch at module level, so nothing imports this at module level. Knows no variants: it walks a module.

`init` is the published form, as torchvision has it: Kaiming normal (fan out) for convolutions, N(0, 0.01) for linear
layers, no biases, batch norm the identity. Dropping a bias or a batch norm changes nothing there, exactly, so no
comparison could see it. `random` has the very same weights, and besides them biases, affine parameters and running
statistics which all show in the output.

Each of those is drawn in proportion to the spread of what it is added to or divides. The spread is estimated, not
measured, so that drawing needs no forward pass: a second moment of 1 at the input (images are normalised), times the
fan-in and the weights' variance at a layer, times 1/2 at a ReLU (He et al. 2015, section 2.2), times `POOL_GAIN` at a
max pool. Measured on images with a natural spectrum, 224 pixels: root mean squares from 0.05 (vgg11_lrn's logits) to
3.6 and no activation above 19 at any depth of vgg11 to vgg19, with and without batch norm, so that fp16 neither
overflows nor leaves its normal range; the part of the logits that depends on the input is 13 % (vgg19) to 17 % of
their norm, against 15 % to 21 % for `init`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LINEAR_STD = 0.01  # torchvision's, and the paper's for its network A
KAIMING_GAIN = 2.0  # a ReLU lets half of the second moment through
OFFSET = 0.2  # biases and means over the spread: losing one shows, and the constant part does not bury the signal
NEAREST, FURTHEST = 0.5, 1.5  # each draw over its scale: none is so near to nothing (or to 1) that it could be dropped
POOL_GAIN = 1.5  # second moment after a 2x2 max pool over the one before, between 1 (equal pixels) and about 3.1
NORMAL_GROUP = 16  # values that torch draws together on a CPU
LRN_GAIN = 2.0**-1.5  # (k^-beta)^2 with k = 2 and beta = 0.75: what LRN does where activations are small


@dataclass(frozen=True, slots=True)
class NormalTensor:
    """An fp32 tensor that is drawn from N(0, std) only when it is wanted, whole or in pieces, to the same bits.

    Attributes:
        seed: of its own generator.
    """

    shape: torch.Size
    std: float
    seed: int

    def whole(self) -> Tensor:
        """Draw it at once."""
        return torch.empty(self.shape).normal_(0, self.std, generator=self._generator())

    def pieces(self, buffer: Tensor) -> Iterator[Tensor]:
        """Draw it from front to back into a flat buffer of some multiple of 16; a piece is valid until the next.

        torch fills 16 values at a time, and the last 16 once more where they do not come out even: so a piece has a
        multiple of 16, and the last one has 16 at least.
        """
        generator, left = self._generator(), self.shape.numel()
        while left:
            count = min(buffer.numel(), left)
            count -= NORMAL_GROUP if 0 < left - count < NORMAL_GROUP else 0
            yield buffer[:count].normal_(0, self.std, generator=generator)
            left -= count

    def _generator(self) -> torch.Generator:
        return torch.Generator("cpu").manual_seed(self.seed)


LazyState = Mapping[str, Tensor | NormalTensor]


def draw_state(network: nn.Module, *, seed: int, published: bool) -> dict[str, Tensor]:
    """Return a state for a network (on any device, it is only read) of layers in sequence.

    Each tensor has a generator of its own, seeded by the seed and its key: the global generator is left alone, a layer
    keeps its weights when another changes, and both forms of one seed share their weights.
    """
    lazy = plan_state(network, seed=seed, published=published)
    return {key: entry.whole() if isinstance(entry, NormalTensor) else entry for key, entry in lazy.items()}


def plan_state(network: nn.Module, *, seed: int, published: bool) -> LazyState:
    """Return what `draw_state` does with the large tensors not drawn yet."""
    drawing = _Drawing(seed, published=published)
    return {key: entry for name, layer in network.named_modules() for key, entry in drawing.draw(name, layer).items()}


class _Drawing:
    """Walks the layers in order with the second moment of the activations between them."""

    def __init__(self, seed: int, *, published: bool) -> None:
        self._seed = seed
        self._published = published
        self._moment = 1.0

    def draw(self, name: str, layer: nn.Module) -> LazyState:
        """Return the layer's tensors, none for a layer without, and step over it."""
        tensors: LazyState = {}
        if isinstance(layer, nn.Conv2d | nn.Linear):
            tensors = self._weighted(name, layer)
        elif isinstance(layer, nn.BatchNorm2d):
            tensors = self._batch_norm(name, layer.num_features)
        elif isinstance(layer, nn.ReLU):
            self._moment /= KAIMING_GAIN
        elif isinstance(layer, nn.MaxPool2d):
            self._moment *= POOL_GAIN
        elif isinstance(layer, nn.LocalResponseNorm):
            self._moment *= LRN_GAIN
        return {f"{name}.{part}": tensor for part, tensor in tensors.items()}

    def _weighted(self, name: str, layer: nn.Conv2d | nn.Linear) -> LazyState:
        shape = layer.weight.shape
        fan_in, fan_out = shape[1:].numel(), shape[0] * shape[2:].numel()
        std = LINEAR_STD if isinstance(layer, nn.Linear) else math.sqrt(KAIMING_GAIN / fan_out)
        self._moment *= fan_in * std**2
        weight = NormalTensor(shape, std, self._seed_of(f"{name}.weight"))
        return {"weight": weight, "bias": self._offsets(f"{name}.bias", shape[0])}

    def _batch_norm(self, name: str, channels: int) -> LazyState:
        tracked = {"num_batches_tracked": torch.zeros((), dtype=torch.int64)}
        if self._published:
            one, zero = torch.ones(channels), torch.zeros(channels)
            return {"weight": one, "bias": zero, "running_mean": zero.clone(), "running_var": one.clone()} | tracked
        mean = self._offsets(f"{name}.running_mean", channels)
        variance = self._sizes(f"{name}.running_var", channels) * self._moment
        self._moment = 1.0  # what dividing by the spread leaves
        weight, bias = self._sizes(f"{name}.weight", channels), self._offsets(f"{name}.bias", channels)
        return {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance} | tracked

    def _offsets(self, key: str, count: int) -> Tensor:
        """Draw values of either sign, about `OFFSET` times the spread; zeros for the published form."""
        if self._published:
            return torch.zeros(count)
        signs = torch.empty(count).bernoulli_(generator=self._generator(key + "/sign")) * 2 - 1
        return self._sizes(key, count) * signs * (OFFSET * math.sqrt(self._moment))

    def _sizes(self, key: str, count: int) -> Tensor:
        return torch.empty(count).uniform_(NEAREST, FURTHEST, generator=self._generator(key))

    def _generator(self, key: str) -> torch.Generator:
        return torch.Generator("cpu").manual_seed(self._seed_of(key))

    def _seed_of(self, key: str) -> int:
        digest = hashlib.sha256(f"{self._seed}/{key}".encode()).digest()
        return int.from_bytes(digest[:4])  # the generator uses 32 bits of a seed
