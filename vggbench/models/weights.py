"""Where a network's weights come from: a seed or a file; and the module that holds them.

Imports torch inside its functions. Writes nothing: the weights file is the export's.
"""

from __future__ import annotations

import pickle
import struct
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vggbench.errors import WeightsError
from vggbench.models.spec import ModelSpec, weights_file_sha256

if TYPE_CHECKING:
    from torch import Tensor

    from vggbench.models.vgg import VGG

State = dict[str, "Tensor"]

SHOWN_DIFFERENCES = 3  # in an error message: enough to recognise the network that the file is for
ZIP_MAGIC = b"PK\x03\x04"  # torch.save since PyTorch 1.6
LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # torch.save before: its magic number, pickled
# What torch.load raises on a file that was damaged: the unpickler runs off its tables.
DAMAGED = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    struct.error,
)


def initial_state(spec: ModelSpec) -> State:
    """Return the weights that the spec's seed draws, fp32, in `state_dict` order."""
    from vggbench.models.initialization import draw_state

    if not spec.has_generated_weights:
        raise WeightsError(f"weights are the file {spec.weights!r}, not drawn from a seed; use state_for")
    return draw_state(empty_module(spec), seed=spec.seed, published=spec.weights == "init")


def read_state(path: str | Path) -> State:
    """Read a `.safetensors` file, or a `.pth` of tensors; nothing in it is executed.

    A `{"state_dict": ...}` wrapper and the `module.` prefixes of data-parallel training are taken off.
    """
    path = Path(path)
    read = _read_safetensors if path.suffix == ".safetensors" else _read_pickle
    content = read(path)
    inner = content.get("state_dict", content) if isinstance(content, Mapping) else content
    return _only_tensors(inner, path)


def state_for(spec: ModelSpec) -> State:
    """Return the spec's weights, generated, or read from the file and checked by hash, keys and shapes; in fp32."""
    if spec.has_generated_weights:
        return initial_state(spec)
    path = Path(spec.weights)
    if weights_file_sha256(path) != spec.weights_sha256:
        raise WeightsError(f"weights file {spec.weights!r} has changed since the request was made; start again")
    return _fitted(read_state(path), empty_module(spec).state_dict(), source=path.name, variant=spec.variant)


def build_module(spec: ModelSpec, state: Mapping[str, Tensor] | None = None) -> VGG:
    """Return the network in eval mode on the CPU; its parameters are the state's own tensors, not copies."""
    network = empty_module(spec)
    network.load_state_dict(state_for(spec) if state is None else state, assign=True)
    return network.eval()


def load_module(spec: ModelSpec, safetensors_path: str | Path) -> VGG:
    """Return the network of the spec with the weights of a weights artefact's file, in eval mode."""
    path = Path(safetensors_path)
    state = _fitted(read_state(path), empty_module(spec).state_dict(), source=str(path), variant=spec.variant)
    return build_module(spec, state)


def empty_module(spec: ModelSpec) -> VGG:
    """Return the network on the meta device: names and shapes, no memory."""
    import torch

    from vggbench.models.vgg import VGG

    with torch.device("meta"):
        return VGG(spec)


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        # Cloned: the file maps its tensors at addresses that are not aligned for vector instructions.
        return {key: tensor.clone() for key, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"weights file {str(path)!r} is not a whole safetensors file: {_first_sentence(error)}"
        ) from error


def _read_pickle(path: Path) -> object:
    import torch

    try:
        with path.open("rb") as file:
            start = file.read(len(LEGACY_MAGIC))
        if not start.startswith((ZIP_MAGIC, LEGACY_MAGIC)):
            raise WeightsError(f"weights file {str(path)!r} was not written by torch.save; give a .pth or .safetensors")
        with warnings.catch_warnings():
            # What is odd about a file (TorchScript, a pickle protocol) is announced before it is refused for it.
            warnings.filterwarnings("ignore", category=UserWarning)
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"weights file {str(path)!r} is damaged or holds more than tensors (a whole pickled module, say), "
            "and opening it would run its code; save module.state_dict() instead, where you trust it"
        ) from error
    except DAMAGED as error:
        raise WeightsError(f"weights file {str(path)!r} cannot be read: {_first_sentence(error)}") from error
    return content


def _first_sentence(error: Exception) -> str:
    """Return what went wrong without the advice that libraries add to it."""
    return next(iter(str(error).splitlines()), type(error).__name__).split(". ")[0]


def _only_tensors(content: object, path: Path) -> State:
    import torch

    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"weights file {str(path)!r} holds no state_dict; save module.state_dict()")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise WeightsError(
                f"weights file {str(path)!r}: entry {key!r} is no tensor; save module.state_dict() alone"
            )
    wrapped = all(key.startswith("module.") for key in content)
    return {key.removeprefix("module.") if wrapped else key: tensor for key, tensor in content.items()}


def _fitted(state: State, expected: Mapping[str, Tensor], *, source: str, variant: str) -> State:
    """Return the state in the network's order and types, or say where it departs from the network."""
    import torch

    for key, tensor in expected.items():
        if key.endswith("num_batches_tracked"):  # counts training steps; files older than PyTorch 0.4.1 lack it
            state.setdefault(key, torch.zeros((), dtype=tensor.dtype))
    differences = list(_differences(state, expected))
    if differences:
        shown = "; ".join(differences[:SHOWN_DIFFERENCES])
        more = f" and {len(differences) - SHOWN_DIFFERENCES} more" if len(differences) > SHOWN_DIFFERENCES else ""
        raise WeightsError(f"weights file {source!r} does not fit {variant}: {shown}{more}")
    return {key: state[key].to(tensor.dtype).contiguous() for key, tensor in expected.items()}


def _differences(state: State, expected: Mapping[str, Tensor]) -> Iterator[str]:
    for key, tensor in expected.items():
        if key not in state:
            yield f"{key} is missing"
        elif state[key].shape != tensor.shape:
            yield f"{key} is {_shape(state[key])}, the network's is {_shape(tensor)}"
    yield from (f"{key} is not in the network" for key in state if key not in expected)


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a scalar"
