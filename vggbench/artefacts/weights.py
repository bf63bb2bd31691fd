"""The weights file: one safetensors file that every backend, process and environment loads.

Imports torch only when there is a file to write; reading a file back needs none of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.store import Request, Written, prepare, tool_versions
from vggbench.errors import ArtefactError
from vggbench.models.spec import ModelSpec

WEIGHTS_FILE = "model.safetensors"
# Raised when models/initialization.py draws other numbers for the same seed, so that no file of the old scheme is
# taken for one of the new. The torch that drew them is not part of the key: weights outlive an upgrade.
GENERATION_SCHEME = 1
BLOCK_BYTES = 16 << 20  # of a tensor in memory at a time: larger blocks are not faster
LENGTH_BYTES = 8  # in front of the header
SAFETENSORS_TYPES = {"F32": "<f4", "I64": "<i8"}  # those that a network's state has


def weights_artefact(spec: ModelSpec, exports: Path) -> Artefact:
    """Return the spec's weights as one file, written once and then found again."""
    request = Request(
        kind="weights",
        format="safetensors",
        main=WEIGHTS_FILE,
        spec=spec,
        precision="fp32",
        material={"spec": spec.digest(), "scheme": GENERATION_SCHEME},
    )
    return prepare(request, exports, lambda folder: _write(spec, folder))


def _write(spec: ModelSpec, folder: Path) -> Written:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from vggbench.models.weights import state_for

    state = state_for(spec)
    try:
        save_file(state, folder / WEIGHTS_FILE)
    except SafetensorError as error:  # what it says of a full disk too
        raise OSError(str(error)) from error
    return Written(tools=tool_versions("torch", "safetensors"))


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

    def blocks(self, key: str) -> Iterator[memoryview]:
        """Yield a tensor's bytes; a block is valid until the next one is asked for."""
        first, end = self._header[key]["data_offsets"]
        buffer = memoryview(bytearray(min(BLOCK_BYTES, end - first)))
        with self.path.open("rb", buffering=0) as file:
            file.seek(self._start + first)
            left = end - first
            while left:
                count = file.readinto(buffer[: min(len(buffer), left)])
                if not count:
                    raise ArtefactError(f"{self.path}: the file ends inside {key}; remove its folder and export again")
                yield buffer[:count]
                left -= count
