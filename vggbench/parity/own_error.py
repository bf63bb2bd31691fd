"""PyTorch's own error in a precision: what the best that everybody uses makes of the same network and images.

Held against it, a backend's error tells "as good as bf16 can be" apart from "wrong, but within the tolerance". Where
PyTorch computes in the precision on this CPU it does so itself; elsewhere the precision is imitated in fp32: weights
and activations are rounded to its type, and products are summed in fp32, as accelerators do.

Imports torch inside its functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact
from vggbench.models.spec import ModelSpec
from vggbench.parity.metrics import compare

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

NATIVE, EMULATED = "eager", "emulated"
EMULATED_PRECISIONS = ("tf32", "fp16", "bf16")
_DROPPED_BITS = 13  # of fp32's 23 stored bits of significand; tf32 keeps 10


def pytorch_error(
    spec: ModelSpec, weights: Artefact, precision: str, images: NDArray[np.float32], reference: NDArray[np.float64]
) -> tuple[float, str] | None:
    """Return PyTorch's error in a precision relative to the signal, and how it was computed; None where it cannot be.

    `images` `(N, 3, S, S)` and `reference` `(N, classes)` in float64 are those of the reference artefact.
    """
    from vggbench.backends.torch_eager import BACKEND

    if BACKEND.supports(precision, "cpu").supported:
        logits, how = _run_natively(weights, precision, images), NATIVE
    elif precision in EMULATED_PRECISIONS:
        logits, how = emulated_logits(spec, weights, precision, images), EMULATED
    else:
        return None
    return compare(logits, reference).signal_error, how


def _run_natively(weights: Artefact, precision: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    import torch

    from vggbench.backends.torch_eager import load_network

    network = load_network(weights, precision, {})
    return _one_by_one(lambda image: network(image)[0], torch.from_numpy(images))


def emulated_logits(
    spec: ModelSpec, weights: Artefact, precision: str, images: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the logits of the network in a precision that is imitated."""
    import torch

    from vggbench.models.weights import load_module

    network = load_module(spec, weights.path)
    emulate(network, precision)
    return _one_by_one(network.logits, torch.from_numpy(images))


def emulate(network: nn.Module, precision: str) -> None:
    """Let a network in fp32 round every weight and activation to a precision's type; in tf32 only what is multiplied.

    The weights are replaced, and every layer is given hooks.
    """
    import torch

    rounded = _to_tf32 if precision == "tf32" else _through(torch.float16 if precision == "fp16" else torch.bfloat16)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            _round_weights(layer, rounded, bias=precision != "tf32")
            layer.register_forward_pre_hook(lambda _layer, inputs: tuple(map(rounded, inputs)))
        if precision != "tf32" and not any(layer.children()):
            layer.register_forward_hook(lambda _layer, _inputs, output: rounded(output))


def _one_by_one(run: Callable[[Tensor], Tensor], images: Tensor) -> NDArray[np.float32]:
    import torch

    with torch.inference_mode():
        logits: NDArray[np.float32] = torch.cat([run(image[None]).float() for image in images]).numpy()
    return logits


def _round_weights(layer: nn.Module, rounded: Callable[[Any], Any], *, bias: bool) -> None:
    import torch

    with torch.no_grad():
        layer.weight = torch.nn.Parameter(rounded(layer.weight), requires_grad=False)
        if bias:
            layer.bias = torch.nn.Parameter(rounded(layer.bias), requires_grad=False)


def _through(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.to(dtype).float()


def _to_tf32(tensor: Tensor) -> Tensor:
    """Round fp32 values to tf32's 10 bits of significand, to nearest, ties to even."""
    import torch

    bits = tensor.view(torch.int32)
    last_kept = (bits >> _DROPPED_BITS) & 1
    rounded = (bits + (1 << (_DROPPED_BITS - 1)) - 1 + last_kept) & -(1 << _DROPPED_BITS)
    return rounded.view(torch.float32)
