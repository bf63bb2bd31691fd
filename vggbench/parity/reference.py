"""What every output is held against: PyTorch's module in float64 on the CPU, on fixed images.

Imports torch inside its functions, and not at all when the reference exists already.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact, check_files
from vggbench.artefacts.store import Request, Written, exists, prepare, tool_versions
from vggbench.artefacts.weights import has_weights, weights_artefact
from vggbench.data.source import DataSource
from vggbench.errors import CellError
from vggbench.models.network_file import Network
from vggbench.models.spec import IMAGE_CHANNELS, ModelSpec
from vggbench.parity.inputs import IMAGES, input_images
from vggbench.parity.metrics import RunningAmplification

if TYPE_CHECKING:
    from vggbench.models.vgg import VGG, Prefix

REFERENCE_FILE = "reference.npz"
SMALL_BYTES = 1 << 16  # headers, an amplification a layer, the manifest
SCHEME = 1  # raised when the same weights and images would give other arrays


def reference_artefact(spec: ModelSpec, exports: Path, weights: Artefact, source: DataSource | None = None) -> Artefact:
    """Return the reference of a spec and its weights: `inputs` (8, 3, S, S) fp32, `logits` (8, classes) float64.

    The inputs are synthetic, or of a source that was kept. Computed once (about a second an image) and then found
    again. Raises `CellError` if a logit is not finite.
    """
    inputs = input_images(spec, exports, source)
    return prepare(_request(spec, weights, inputs), exports, lambda folder: _write(spec, weights, inputs, folder))


def missing_bytes(spec: ModelSpec, exports: Path, source: DataSource | None = None) -> int:
    """Return how much `reference_artefact` would write: 0 if it is there."""
    if has_weights(spec, exports):
        inputs = input_images(spec, exports, source)
        if exists(_request(spec, weights_artefact(spec, exports), inputs), exports):
            return 0
    return reference_bytes(spec)


def reference_bytes(spec: Network) -> int:
    """Return how large a reference is, at most: its images, and what is small beside them."""
    return IMAGES * (4 * IMAGE_CHANNELS * spec.input_size**2 + 8 * spec.num_classes) + SMALL_BYTES


def _request(spec: ModelSpec, weights: Artefact, inputs: NDArray[np.float32]) -> Request:
    return Request(
        kind="reference",
        format="reference",
        main=REFERENCE_FILE,
        spec=spec,
        precision="fp64",
        parent=weights.sha256,
        material={
            "spec": spec.digest(),
            "weights": weights.sha256,
            "inputs": hashlib.sha256(inputs.tobytes()).hexdigest(),
            "scheme": SCHEME,
        },
    )


def _write(spec: ModelSpec, weights: Artefact, inputs: NDArray[np.float32], folder: Path) -> Written:
    from vggbench.models.weights import load_module

    check_files(weights)
    logits, amplifications = reference_logits(load_module(spec, weights.path), inputs)
    lost = int(np.count_nonzero(~np.isfinite(logits)))
    if lost:
        raise CellError(
            f"{spec.variant}: {lost} of the reference's {logits.size} logits are not finite; "
            f"check the weights ({spec.weights})"
        )
    np.savez(folder / REFERENCE_FILE, inputs=inputs, logits=logits, amplifications=amplifications)
    size = spec.input_size
    return Written(
        inputs=(("inputs", "float32", (IMAGES, 3, size, size)),),
        outputs=(("logits", "float64", (IMAGES, spec.num_classes)),),
        tools=tool_versions("torch", "numpy"),
    )


def reference_logits(
    network: VGG | Prefix, inputs: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the network's logits in float64, and the amplification at each convolution and linear layer.

    The network is converted in place. One image at a time: its activations alone take a quarter of a GiB at 224 pixels.
    """
    import torch

    exact = network.double().eval()
    layers = [layer for layer in exact.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    spreads = [RunningAmplification() for _ in layers]
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, output, spread=spread: spread.add(output.numpy()))
        for layer, spread in zip(layers, spreads, strict=True)
    ]
    with torch.inference_mode():
        parts = [exact.logits(torch.from_numpy(image[None]).double()).numpy() for image in inputs]
    for hook in hooks:
        hook.remove()
    logits: NDArray[np.float64] = np.concatenate(parts)
    return logits, np.array([spread.value for spread in spreads])
