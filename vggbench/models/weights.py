"""Where a network's weights come from: a seed or a file; and the module that holds them.

Imports torch inside its functions. Writes nothing: the weights file is the export's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vggbench.errors import WeightsError
from vggbench.models.spec import IMAGE_CHANNELS, ModelSpec, weights_file_sha256
from vggbench.models.weights_file import State, fitted, read_state, refuse_nonfinite

if TYPE_CHECKING:
    from torch import Tensor

    from vggbench.models.initialization import LazyState
    from vggbench.models.vgg import VGG


def initial_state(spec: ModelSpec) -> State:
    """Return the weights that the spec's seed draws, fp32, in `state_dict` order."""
    from vggbench.models.initialization import draw_state

    if not spec.has_generated_weights:
        raise WeightsError(f"weights are the file {spec.weights!r}, not drawn from a seed; use state_for")
    return draw_state(empty_module(spec), seed=spec.seed, published=spec.weights == "init")


def state_for(spec: ModelSpec) -> State:
    """Return the spec's weights in fp32: generated, or read from the file and checked by hash, keys, shapes, values."""
    if spec.has_generated_weights:
        return initial_state(spec)
    path = Path(spec.weights)
    if weights_file_sha256(path) != spec.weights_sha256:
        raise WeightsError(f"weights file {spec.weights!r} has changed since the request was made; start again")
    state = fitted(read_state(path), empty_module(spec).state_dict(), source=path.name, variant=spec.variant)
    refuse_nonfinite(state, path.name)
    return state


def lazy_state(spec: ModelSpec) -> LazyState:
    """Return `state_for`, the large tensors that a seed decides not drawn yet."""
    from vggbench.models.initialization import plan_state

    if not spec.has_generated_weights:
        return state_for(spec)
    return plan_state(empty_module(spec), seed=spec.seed, published=spec.weights == "init")


def build_module(spec: ModelSpec, state: Mapping[str, Tensor] | None = None) -> VGG:
    """Return the network in eval mode on the CPU; its parameters are the state's own tensors, not copies."""
    network = empty_module(spec)
    network.load_state_dict(state_for(spec) if state is None else state, assign=True)
    return network.eval()


def load_module(spec: ModelSpec, safetensors_path: str | Path) -> VGG:
    """Return the network of the spec with the weights of a weights artefact's file, in eval mode."""
    path = Path(safetensors_path)
    state = fitted(read_state(path), empty_module(spec).state_dict(), source=str(path), variant=spec.variant)
    return build_module(spec, state)


def empty_module(spec: ModelSpec) -> VGG:
    """Return the network on the meta device: names and shapes, no memory."""
    import torch

    from vggbench.models.vgg import VGG

    with torch.device("meta"):
        return VGG(spec)


def output_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Return the shape of each layer's output for one image, without the batch, by the layer's name and in order."""
    import torch

    from vggbench.models.vgg import layers_in_order

    x = torch.empty(1, IMAGE_CHANNELS, spec.input_size, spec.input_size, device="meta")
    shapes = {}
    for name, layer in layers_in_order(empty_module(spec).eval()).items():
        x = layer(x)
        shapes[name] = tuple(x.shape[1:])
    return shapes
