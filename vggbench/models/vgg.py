"""The network itself, as a torch module with torchvision's `state_dict` keys.

Imports torch, so nothing imports this at module level. Knows nothing of where weights come from or go to.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vggbench.errors import RequestError
from vggbench.models.configs import Conv
from vggbench.models.spec import IMAGE_CHANNELS, POOLED_SIZE, ModelSpec

DROPOUT = 0.5  # the paper's
LRN_CHANNELS, LRN_BETA, LRN_K = 5, 0.75, 2.0  # AlexNet's n, beta and k
# AlexNet's alpha is 1e-4. PyTorch divides what it is given by n, so the literal formula takes n times as much.
LRN_ALPHA = {"literal": 5e-4, "divided": 1e-4}
FLATTEN = "reshape"  # what the exported file calls it; it is no module of the network


class LocalResponseNorm(nn.LocalResponseNorm):
    """torch's own, exported as ONNX's one operator of the same formula instead of nine that imitate it."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(N, C, H, W)` over neighbouring channels."""
        if not torch.compiler.is_exporting():
            # torch's CPU kernels for it know no 16-bit types.
            return super().forward(x.float()).to(x.dtype) if x.dtype.itemsize == 2 else super().forward(x)
        attributes: dict[str, Any] = {"alpha": self.alpha, "beta": self.beta, "bias": self.k, "size": self.size}
        return torch.onnx.ops.symbolic("LRN", (x,), attributes, dtype=x.dtype, shape=x.shape)


class AdaptivePool7(nn.Module):
    """`nn.AdaptiveAvgPool2d(7)`, exported exactly at the one feature size that the network was made for.

    Exporters freeze the pool's bins at the sample's size, or turn them into a chain of gathers. Under export this
    is nothing (7 pixels), an average pool (a multiple of 7), or else two products with the pool's matrix.
    """

    # Made on the CPU even where the module is built on the meta device, because no state brings it in later.
    matrix: Tensor

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.feature_size = feature_size
        self.register_buffer("matrix", pool_matrix(feature_size), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pool `(N, C, H, W)` to `(N, C, 7, 7)`."""
        if not torch.compiler.is_exporting():
            return functional.adaptive_avg_pool2d(x, POOLED_SIZE)
        if tuple(x.shape[2:]) != (self.feature_size, self.feature_size):
            raise RequestError(f"exported for {self.feature_size} pixels a side before the head, not {x.shape[2:]}")
        if self.feature_size == POOLED_SIZE:
            return x
        if self.feature_size % POOLED_SIZE == 0:
            return functional.avg_pool2d(x, self.feature_size // POOLED_SIZE)
        return self.matrix @ x @ self.matrix.T


def pool_matrix(size: int) -> Tensor:
    """Return the `(7, size)` matrix P with which P x P' is the adaptive average pool of `(size, size)` pixels."""
    matrix = torch.zeros(POOLED_SIZE, size, device="cpu")
    for row in range(POOLED_SIZE):
        first, end = row * size // POOLED_SIZE, -(-(row + 1) * size // POOLED_SIZE)  # torch's bins: floor, ceiling
        matrix[row, first:end] = 1 / (end - first)
    return matrix


class VGG(nn.Module):
    """The network of a model spec.

    `forward` takes `(N, 3, S, S)` and returns `(N, classes)`: logits or probabilities, as the spec says. In eager
    mode the adaptive head takes any size that the pools allow; the flatten head only the spec's.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.features = _features(spec)
        self.avgpool = AdaptivePool7(spec.feature_size) if spec.head == "adaptive" else nn.Identity()
        self.classifier = _classifier(spec)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the spec's outputs are."""
        logits = self.logits(x)
        return torch.softmax(logits, dim=1) if self.spec.outputs == "probabilities" else logits

    def logits(self, x: Tensor) -> Tensor:
        """Return logits, whatever the spec's outputs are."""
        self._check_input(x)
        pooled = self.avgpool(self.features(x))
        return cast(Tensor, self.classifier(torch.flatten(pooled, 1)))

    def _check_input(self, x: Tensor) -> None:
        size = self.spec.input_size
        if self.spec.head == "flatten" and tuple(x.shape[2:]) != (size, size):
            found = "x".join(str(side) for side in x.shape[2:])
            raise RequestError(
                f"input is {found} pixels; this network's flatten head was sized to {size}x{size}: "
                "resize the input or build with another input size"
            )


def layers_in_order(network: VGG) -> dict[str, nn.Module]:
    """Return the layers in the order in which they run, by their names in the `state_dict` and in an exported file."""
    features = {f"features.{index}": layer for index, layer in enumerate(network.features)}
    classifier = {f"classifier.{index}": layer for index, layer in enumerate(network.classifier)}
    return {**features, "avgpool": network.avgpool, FLATTEN: nn.Flatten(), **classifier}


class Prefix(nn.Module):
    """A network's layers up to and with the one called `last`: what they make of images, flattened `(N, values)`."""

    def __init__(self, network: VGG, last: str) -> None:
        super().__init__()
        layers = layers_in_order(network)
        self.layers = nn.Sequential(*list(layers.values())[: list(layers).index(last) + 1])

    def logits(self, x: Tensor) -> Tensor:
        """Return the last layer's output where the whole network returns logits."""
        return torch.flatten(self.layers(x), 1)


def _features(spec: ModelSpec) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = IMAGE_CHANNELS
    norms = [] if spec.local_response_norm == "none" else [_local_response_norm(spec)]
    for stage in spec.stages:
        if isinstance(stage, Conv):
            layers.append(nn.Conv2d(channels, stage.channels, stage.kernel, padding=stage.padding))
            layers.extend([nn.BatchNorm2d(stage.channels)] if spec.batch_norm else [])
            layers.append(nn.ReLU(inplace=True))
            layers.extend(norms)
            norms, channels = [], stage.channels  # the first ReLU alone is followed by a norm
        else:
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
    return nn.Sequential(*layers)


def _local_response_norm(spec: ModelSpec) -> LocalResponseNorm:
    return LocalResponseNorm(LRN_CHANNELS, LRN_ALPHA[spec.local_response_norm], LRN_BETA, LRN_K)


def _classifier(spec: ModelSpec) -> nn.Sequential:
    width = spec.classifier_width
    return nn.Sequential(
        nn.Linear(spec.classifier_inputs, width),
        nn.ReLU(inplace=True),
        nn.Dropout(DROPOUT),
        nn.Linear(width, width),
        nn.ReLU(inplace=True),
        nn.Dropout(DROPOUT),
        nn.Linear(width, spec.num_classes),
    )
