"""The weights of an ONNX file, beside it: written straight from the weights file, hashed on the way.

Imports numpy alone. A batch norm is folded into the convolution before it here: in float64 and rounded once, so that
the fold costs no more than the rounding of its result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact, check_hash
from vggbench.artefacts.streams import HashedFile, read_parts
from vggbench.artefacts.weights import WeightsReader

if TYPE_CHECKING:
    import onnx

ALIGNMENT = 4096  # bytes, a page: readers map tensors where they lie
BATCH_NORM_EPSILON = 1e-5  # torch's default, which the networks have


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a tensor lies in the data file, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class DataFile:
    """What was written: each tensor's place by its key, and the SHA-256 of the whole."""

    extents: Mapping[str, Extent]
    sha256: str


def write_external_data(tensors: Iterable[tuple[str, bytes | memoryview]], path: Path) -> DataFile:
    """Write tensors in the order in which they come and say where they lie; a large one may come in several pieces."""
    extents: dict[str, Extent] = {}
    with HashedFile(path) as file:
        for key, content in tensors:
            if key not in extents:
                file.write(bytes(-file.offset % ALIGNMENT))
                extents[key] = Extent(file.offset, 0)
            file.write(content)
            extents[key] = Extent(extents[key].offset, file.offset - extents[key].offset)
    return DataFile(extents, file.sha256)


def read_external_data(
    artefact: Artefact, name: str, extents: Mapping[str, Extent]
) -> Iterator[tuple[str, memoryview]]:
    """Yield (key, bytes) of the tensors in an artefact's data file, pieces and errors as in `read_tensors`."""
    path, digest = Path(artefact.folder) / name, hashlib.sha256()
    places = {key: (extent.offset, extent.offset + extent.length) for key, extent in extents.items()}
    yield from read_parts(path, places, digest)
    check_hash(path, digest.hexdigest(), artefact.files[name])


def refer(graph: onnx.GraphProto, name: str, extents: Mapping[str, Extent]) -> None:
    """Let a graph's stored tensors point into the data file of that name."""
    for tensor in graph.initializer:
        if tensor.name in extents:
            extent = extents[tensor.name]
            tensor.data_location = tensor.EXTERNAL
            tensor.ClearField("external_data")
            for key, value in (("location", name), ("offset", extent.offset), ("length", extent.length)):
                tensor.external_data.add(key=key, value=str(value))


def read_tensors(weights: Artefact, keys: Collection[str]) -> Iterator[tuple[str, bytes | memoryview]]:
    """Yield (key, fp32 bytes), a large tensor in several pieces, each valid until the next.

    A batch norm that is not among the keys itself is folded into the convolution before it.
    Raises `ArtefactError` at the end if the weights file is not what its manifest says: it is hashed as it is read.
    """
    reader, digest, wanted = WeightsReader(weights.path), hashlib.sha256(), set(keys)
    folds = {key: norm for key in wanted if _is_folded(norm := _norm_after(key), reader, wanted)}
    for key, content in reader.stream(digest):
        if key in folds:
            wanted.discard(key)  # its further pieces are in the fold
            yield key, folded(reader, key, folds.pop(key)).astype("<f4").tobytes()
        elif key in wanted:
            yield key, content
    check_hash(weights.path, digest.hexdigest(), weights.files[weights.main])


def _is_folded(norm: str, reader: WeightsReader, wanted: Collection[str]) -> bool:
    return f"{norm}.running_var" in reader.shapes and f"{norm}.running_var" not in wanted


def _norm_after(key: str) -> str:
    """Return the name that a batch norm has when one follows the layer of a key: `features.0.bias` -> `features.1`."""
    sequence, index, _parameter = key.split(".")
    return f"{sequence}.{int(index) + 1}"


def folded(reader: WeightsReader, key: str, norm: str) -> NDArray[np.float64]:
    """Return a convolution's weight or bias with the batch norm after it folded in.

    gamma (W x + b - mean) / sqrt(var + eps) + beta = (s W) x + (s (b - mean) + beta), with s = gamma / sqrt(var + eps).
    """
    gamma, beta, mean, variance = (
        reader.tensor(f"{norm}.{name}").astype(np.float64) for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
    values = reader.tensor(key).astype(np.float64)
    return scale * (values - mean) + beta if key.endswith(".bias") else scale[:, None, None, None] * values
