"""The weights file: one safetensors file that every backend, process and environment loads.

Imports torch only when there is a file to write; reading a file back needs none of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.store import Request, Written, exists, prepare, tool_versions
from vggbench.artefacts.streams import HashedFile, read_parts
from vggbench.errors import ArtefactError
from vggbench.models.layers import totals, walk
from vggbench.models.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

    from vggbench.models.initialization import LazyState, NormalTensor

WEIGHTS_FILE = "model.safetensors"
# Raised when models/initialization.py draws other numbers for the same seed, so that no file of the old scheme is
# taken for one of the new. The torch that drew them is not part of the key: weights outlive an upgrade.
GENERATION_SCHEME = 1
LAYER_BYTES = 1 << 10  # beside a layer's values: up to five names with shape and place, and a counter
LENGTH_BYTES = 8  # in front of the header
HEADER_ALIGNMENT = 8  # the header is filled up with blanks to it
PIECE_ELEMENTS = 1 << 20  # of a tensor, drawn at a time: few enough to be in the cache still when they are copied
SAFETENSORS_TYPES = {"I64": "<i8", "F32": "<f4"}  # those that a network's state has, the widest first as in the file


def weights_artefact(spec: ModelSpec, exports: Path) -> Artefact:
    """Return the spec's weights as one file, written once and then found again."""
    return prepare(_request(spec), exports, lambda folder: _write(spec, folder))


def has_weights(spec: ModelSpec, exports: Path) -> bool:
    """Whether the spec's weights were written already."""
    return exists(_request(spec), exports)


def missing_bytes(spec: ModelSpec, exports: Path) -> int:
    """Return how much `weights_artefact` would write, at most: 0 if it is there."""
    return 0 if has_weights(spec, exports) else weights_bytes(spec)


def weights_bytes(spec: ModelSpec) -> int:
    """Return how large the file is, at most."""
    layers = walk(spec)
    return totals(layers).weight_bytes + LAYER_BYTES * (len(layers) + 1)


def _request(spec: ModelSpec) -> Request:
    return Request(
        kind="weights",
        format="safetensors",
        main=WEIGHTS_FILE,
        spec=spec,
        precision="fp32",
        material={"spec": spec.digest(), "scheme": GENERATION_SCHEME},
    )


def _write(spec: ModelSpec, folder: Path) -> Written:
    from vggbench.models.weights import lazy_state

    sha256 = write_safetensors(folder / WEIGHTS_FILE, lazy_state(spec))
    return Written(tools=tool_versions("torch"), sha256={WEIGHTS_FILE: sha256})


def write_safetensors(path: Path, state: LazyState) -> str:
    """Write a state as safetensors' own library does, to the bit; return the SHA-256.

    Large tensors are drawn on the way. The library wants all of them in memory before it writes the first byte.
    """
    import torch

    kinds = {key: "I64" if getattr(entry, "dtype", None) == torch.int64 else "F32" for key, entry in state.items()}
    ranks = list(SAFETENSORS_TYPES)
    keys = sorted(state, key=lambda key: (ranks.index(kinds[key]), key))
    buffer = torch.empty(PIECE_ELEMENTS)
    with HashedFile(path) as file:
        file.write(_header({key: (kinds[key], tuple(state[key].shape)) for key in keys}))
        for key in keys:
            for piece in _pieces(state[key], buffer):
                file.write(piece.numpy().data.cast("B"))
    return file.sha256


def _header(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """Return the beginning of a file with these tensors, type and shape by key, in this order."""
    entries = {}
    end = 0
    for key, (kind, shape) in tensors.items():
        first, end = end, end + int(np.prod(shape, dtype=np.int64)) * np.dtype(SAFETENSORS_TYPES[kind]).itemsize
        entries[key] = {"dtype": kind, "shape": list(shape), "data_offsets": [first, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % HEADER_ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def _pieces(entry: Tensor | NormalTensor, buffer: Tensor) -> Iterator[Tensor]:
    from vggbench.models.initialization import NormalTensor

    return entry.pieces(buffer) if isinstance(entry, NormalTensor) else iter([entry.reshape(-1)])


class WeightsReader:
    """Reads a weights file tensor by tensor, or a tensor block by block, with bounded memory.

    safetensors' own reader maps the file, and what it has mapped counts as the process's memory. The format is 8 bytes
    with the header's length, the header in JSON, and the tensors one after the other.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(LENGTH_BYTES), "little")
                self._header = dict(json.loads(file.read(min(length, path.stat().st_size))))
        except (OSError, ValueError, TypeError) as error:
            raise ArtefactError(f"{path}: not a safetensors file: {error}") from error
        self._header.pop("__metadata__", None)
        self._start = LENGTH_BYTES + length

    @property
    def _places(self) -> dict[str, tuple[int, int]]:
        """First byte in the file and the one behind the last, by key in the file's order."""
        places = {key: entry["data_offsets"] for key, entry in self._header.items()}
        return {key: (self._start + first, self._start + end) for key, (first, end) in places.items()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape by key."""
        return {key: tuple(entry["shape"]) for key, entry in self._header.items()}

    def tensor(self, key: str) -> NDArray[np.float32]:
        """Return one tensor."""
        entry = self._header[key]
        count = int(np.prod(entry["shape"], dtype=np.int64))
        flat: NDArray[np.float32] = np.fromfile(
            self.path, SAFETENSORS_TYPES[entry["dtype"]], count, offset=self._start + entry["data_offsets"][0]
        )
        return flat.reshape(entry["shape"])

    def stream(self, digest: hashlib._Hash) -> Iterator[tuple[str, memoryview]]:
        """Yield (key, bytes) from the file's front to its back and hash all of it; bytes are valid until the next."""
        return read_parts(self.path, self._places, digest)
