"""Reads a weights file of anybody's: nothing in it is executed, and what does not fit is said in one line.

Imports torch inside its functions.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vggbench.errors import VggbenchWarning, WeightsError

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]

SHOWN_DIFFERENCES = 2  # of each kind in an error message: enough to recognise the network that the file is for
LONGEST_NAME = 80  # characters of a key in a message; the networks' own have under 40
WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which training loops save the state among other things
PREFIXES = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every key
ZIP_MAGIC = b"PK\x03\x04"  # torch.save since PyTorch 1.6
LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # torch.save before: its magic number, pickled
MOST_RECORDS = 10_000  # in a zip: fifty times what the deepest network's file has
# What torch.load and zipfile raise on a file that was damaged: the unpickler runs off its tables.
DAMAGED = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    MemoryError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
)


def read_state(path: str | Path) -> State:
    """Read a `.safetensors` file, or a `.pth` of tensors; nothing in it is executed.

    A wrapper such as `{"state_dict": ...}` and the prefixes of data-parallel training and torch.compile are taken off.
    """
    path = Path(path)
    read = _read_safetensors if path.suffix == ".safetensors" else _read_pickle
    content = read(path)
    if isinstance(content, Mapping):
        content = next((content[name] for name in WRAPPERS if name in content), content)
    return _only_tensors(content, path)


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the texts that a `.safetensors` file carries beside its tensors, by name; `WeightsError` as `read_state`.

    Reads the file's header alone.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    _refuse_empty(path)
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, *DAMAGED) as error:
        raise WeightsError(
            f"weights file {str(path)!r} is not a whole safetensors file: {_first_sentence(error)}"
        ) from error


def fitted(state: State, expected: Mapping[str, Tensor], *, source: str, variant: str) -> State:
    """Return the state in the network's order and types, or say where it departs from the network."""
    import torch

    for key, tensor in expected.items():
        if key.endswith("num_batches_tracked"):  # counts training steps; files older than PyTorch 0.4.1 lack it
            state.setdefault(key, torch.zeros((), dtype=tensor.dtype))
    kinds = _differences(state, expected)
    if any(kinds):
        shown = [difference for kind in kinds for difference in kind[:SHOWN_DIFFERENCES]]
        left = sum(map(len, kinds)) - len(shown)
        more = f" and {left} more" if left else ""
        raise WeightsError(f"weights file {source!r} does not fit {variant}: {'; '.join(shown)}{more}")
    _say_conversions(state, expected, source)
    return _apart({key: state[key].detach().resolve_neg().to(tensor.dtype) for key, tensor in expected.items()})


def refuse_nonfinite(state: State, source: str) -> None:
    """Raise `WeightsError` at the first tensor with a value that fp32 cannot hold, NaN included."""
    import torch

    for key, tensor in state.items():
        lost = tensor.numel() - int(torch.isfinite(tensor).sum())
        if lost:
            raise WeightsError(
                f"weights file {source!r}: {lost} of {tensor.numel()} values of {key} are not finite in fp32; "
                "a network cannot be compared with such weights"
            )


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _refuse_empty(path)
    try:
        # Cloned: the file maps its tensors at addresses that are not aligned for vector instructions.
        return {key: tensor.clone() for key, tensor in load_file(path).items()}
    except (SafetensorError, *DAMAGED) as error:
        if "Cannot allocate memory" in str(error):  # the library says it as it says of a damaged file
            raise MemoryError from error
        raise WeightsError(
            f"weights file {str(path)!r} is not a whole safetensors file: {_first_sentence(error)}"
        ) from error


def _read_pickle(path: Path) -> object:
    import torch

    _refuse_empty(path)
    try:
        with path.open("rb") as file:
            start = file.read(len(LEGACY_MAGIC))
        if not start.startswith((ZIP_MAGIC, LEGACY_MAGIC)):
            raise WeightsError(f"weights file {str(path)!r} was not written by torch.save; give a .pth or .safetensors")
        if start.startswith(ZIP_MAGIC):
            _refuse_other_archives(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd about a file is announced before it is refused for it
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(f"weights file {str(path)!r} {_more_than_tensors(error)}") from error
    except DAMAGED as error:
        raise WeightsError(f"weights file {str(path)!r} cannot be read: {_first_sentence(error)}") from error
    return content


def _refuse_empty(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise WeightsError(f"weights file {str(path)!r} cannot be read: {error.strerror}") from error
    if size == 0:
        raise WeightsError(f"weights file {str(path)!r} is empty; give a .pth or .safetensors with weights in it")


def _refuse_other_archives(path: Path) -> None:
    """Refuse a zip that torch.save did not write: a small file that unpacks to a large one, or a program."""
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    if any(record.filename.endswith("/constants.pkl") for record in records):
        raise WeightsError(
            f"weights file {str(path)!r} is a TorchScript archive, a program; save the module's state_dict() instead"
        )
    packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
    if packed or len(records) > MOST_RECORDS or sum(record.file_size for record in records) > path.stat().st_size:
        raise WeightsError(
            f"weights file {str(path)!r} was not written by torch.save: a zip of {len(records)} records that unpacks "
            f"to {sum(record.file_size for record in records)} bytes; save module.state_dict() again"
        )


def _more_than_tensors(error: Exception) -> str:
    """Say what a pickle holds besides tensors, and the way out."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    what = f"a pickled {found[1][:LONGEST_NAME]}" if found else "more than tensors (a whole pickled module, say)"
    return (
        f"is damaged or holds {what}, and opening it would run its code; save module.state_dict() instead, where you "
        "trust it: torch.save(torch.load(FILE, weights_only=False).state_dict(), NEW_FILE)"
    )


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
                f"weights file {str(path)!r}: entry {repr(key)[:LONGEST_NAME]} is no tensor; "
                "save module.state_dict() alone"
            )
    state = dict(content)
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def _differences(state: State, expected: Mapping[str, Tensor]) -> tuple[list[str], ...]:
    """Return by kind what departs from the network: missing keys, other shapes, unusable tensors, other keys."""
    missing = [f"{key} is missing" for key in expected if key not in state]
    unusable, shapes = [], []
    for key, tensor in expected.items():
        if key not in state:
            continue
        if flaw := _flaw(state[key], tensor):
            unusable.append(f"{key} {flaw}")
        elif state[key].shape != tensor.shape:
            shapes.append(f"{key} is {_shape(state[key])}, the network's is {_shape(tensor)}")
    return missing, shapes, unusable, [f"{_name(key)} is not in the network" for key in state if key not in expected]


def _flaw(tensor: Tensor, expected: Tensor) -> str:
    """Return why a tensor cannot be used as weights; empty if it can."""
    import torch

    if tensor.is_nested or tensor.layout is not torch.strided:
        kind = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        return f"is {kind}, not dense; save its to_dense()"
    if tensor.is_meta:
        return "is on the meta device and has no values; load them before saving"
    if tensor.is_quantized:
        return f"is quantised ({_type(tensor)}); save its dequantize()"
    floating = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
    whole = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
    if tensor.dtype not in (floating if expected.is_floating_point() else whole):
        return f"is {_type(tensor)}, not a floating-point number of 16, 32 or 64 bits"
    return ""


def _say_conversions(state: State, expected: Mapping[str, Tensor], source: str) -> None:
    floating = [state[key] for key, tensor in expected.items() if tensor.is_floating_point()]
    if types := sorted({_type(tensor) for tensor in floating} - {"float32"}):
        warnings.warn(
            f"weights file {source!r} holds {', '.join(types)}: its values are used as float32",
            VggbenchWarning,
            stacklevel=2,
        )


def _apart(state: State) -> State:
    """Return the state with every tensor in memory of its own: tied weights are copies in a file."""
    taken: set[int] = set()
    return {key: _owned(tensor.contiguous(), taken) for key, tensor in state.items()}


def _owned(tensor: Tensor, taken: set[int]) -> Tensor:
    if tensor.untyped_storage().data_ptr() in taken:
        tensor = tensor.clone()
    taken.add(tensor.untyped_storage().data_ptr())
    return tensor


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a scalar"


def _name(key: object) -> str:
    """Return a key as a file has it: short, and printable."""
    if isinstance(key, str) and key.isprintable() and key and len(key) <= LONGEST_NAME:
        return key
    return repr(key)[:LONGEST_NAME]
