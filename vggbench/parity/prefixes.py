"""What each prefix of a network should compute, in float64: by PyTorch's module, or by a file's own graph.

Imports torch and onnx inside its functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.network_file import load_graph
from vggbench.artefacts.onnx_prefix import Cut, part_between
from vggbench.models.spec import ModelSpec
from vggbench.parity.bisect import Expected
from vggbench.parity.reference import reference_logits

if TYPE_CHECKING:
    from torch import nn


class Prefixes(Protocol):
    """The reference of every prefix of a chain; depths count from 1."""

    def expected(self, depth: int) -> Expected:
        """Return what the prefix of that depth makes of the images."""
        ...

    def continued(self, depth: int, handed: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return what the last layer of that depth makes of `(images, values)` that the prefix before handed it."""
        ...


class ModulePrefixes:
    """Of a model spec's module; `lasts` has the name of the last layer in each prefix."""

    def __init__(self, spec: ModelSpec, weights: Path, images: NDArray[np.float32], lasts: Sequence[str]) -> None:
        from vggbench.models.vgg import layers_in_order
        from vggbench.models.weights import load_module, output_shapes

        self._network = load_module(spec, weights).double()
        self._layers = layers_in_order(self._network)
        self._images, self._lasts = images, lasts
        self._shapes = output_shapes(spec)

    def expected(self, depth: int) -> Expected:
        """Run the prefix."""
        from vggbench.models.vgg import Prefix

        last = self._lasts[depth - 1]
        prefix = Prefix(self._network, last)
        outputs, amplifications = reference_logits(prefix, self._images)
        return Expected(outputs, self._shapes[last], _lengths(prefix), amplifications.tolist())

    def continued(self, depth: int, handed: NDArray[np.floating]) -> NDArray[np.float64]:
        """Run the last layer, and with it a batch norm that belongs to it."""
        import torch

        names = list(self._layers)
        first = 0 if depth == 1 else names.index(self._lasts[depth - 2]) + 1
        shape = self._images.shape[1:] if depth == 1 else self._shapes[self._lasts[depth - 2]]
        chosen = [self._layers[name] for name in names[first : names.index(self._lasts[depth - 1]) + 1]]
        parts = []
        with torch.inference_mode():
            for image in handed:
                x = torch.tensor(image, dtype=torch.float64).reshape(1, *shape)
                for layer in chosen:
                    x = layer(x)
                parts.append(x.flatten(1).numpy())
        return np.concatenate(parts)


def _lengths(module: nn.Module) -> list[int]:
    """Return how many products each convolution and linear layer sums into a value."""
    import torch

    products = (layer for layer in module.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear))
    return [math.prod(layer.weight.shape[1:]) for layer in products]


class FilePrefixes:
    """Of an ONNX file, evaluated by ONNX's own reference implementation; `cuts` are where its prefixes end."""

    def __init__(self, path: Path, image: str, images: NDArray[np.float32], batch: int, cuts: Sequence[Cut]) -> None:
        self._model = load_graph(path, with_data=True)
        self._image, self._images, self._batch, self._cuts = image, images, batch, cuts
        self._shapes: dict[int, tuple[int, ...]] = {0: images.shape[1:]}

    def expected(self, depth: int) -> Expected:
        """Run the prefix."""
        from vggbench.parity.self_reference import observe

        end = self._cuts[depth - 1].value
        part = part_between(self._model, end, self._image)
        outputs, layers = observe(part, self._image, end, self._batch, self._images)
        self._shapes[depth] = outputs.shape[1:]
        amplifications = [layer.spread.value for layer in layers]
        flat = outputs.reshape(len(outputs), -1)
        return Expected(flat, outputs.shape[1:], [layer.length for layer in layers], amplifications)

    def continued(self, depth: int, handed: NDArray[np.floating]) -> NDArray[np.float64]:
        """Run what lies between the last two cuts; `expected` was asked for the one before."""
        from vggbench.parity.self_reference import observe

        start = self._image if depth == 1 else self._cuts[depth - 2].value
        end = self._cuts[depth - 1].value
        data = handed.reshape(len(handed), *self._shapes[depth - 1])
        outputs, _layers = observe(part_between(self._model, end, start), start, end, self._batch, data)
        return outputs.reshape(len(outputs), -1)


class QuantizedPrefixes:
    """Of an int8 or fp8 file's own graph in float64, its quantisers rounding; `values` are where its prefixes end."""

    def __init__(self, path: Path, image: str, images: NDArray[np.float32], values: Sequence[str]) -> None:
        self._model = load_graph(path, with_data=True)
        self._image, self._images, self._values = image, images, values
        self._shapes: dict[int, tuple[int, ...]] = {0: images.shape[1:]}

    def expected(self, depth: int) -> Expected:
        """Run the prefix twice, the second time with its roundings perturbed."""
        from vggbench.parity.quantized_reference import evaluate, spread_of

        end = self._values[depth - 1]
        plain, perturbed = evaluate(part_between(self._model, end, self._image), self._image, end, self._images)
        self._shapes[depth] = plain.shape[1:]
        flat = plain.reshape(len(plain), -1)
        spread = spread_of(flat, perturbed.reshape(flat.shape))
        return Expected(flat, plain.shape[1:], (), (), spread)

    def continued(self, depth: int, handed: NDArray[np.floating]) -> NDArray[np.float64]:
        """Run what lies between the last two prefixes; `expected` was asked for the one before."""
        from vggbench.parity.quantized_reference import evaluate

        start = self._image if depth == 1 else self._values[depth - 2]
        end = self._values[depth - 1]
        data = handed.reshape(len(handed), *self._shapes[depth - 1])
        plain, _perturbed = evaluate(part_between(self._model, end, start), start, end, data)
        return plain.reshape(len(plain), -1)
