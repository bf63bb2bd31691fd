"""The weights of an ONNX file, beside it: written straight from the weights file, hashed on the way.

Imports numpy alone. A batch norm is folded into the convolution before it here: in float64 and rounded once, so that
the fold costs no more than the rounding of its result.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.weights import WeightsReader

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


def write_external_data(weights: Path, keys: Iterable[str], path: Path) -> DataFile:
    """Write the fp32 tensors of `keys` one after the other, batch norms folded in, and say where they lie."""
    reader = WeightsReader(weights)
    digest = hashlib.sha256()
    extents: dict[str, Extent] = {}
    end = 0
    with path.open("wb") as file:
        for key in keys:
            offset = end + -end % ALIGNMENT
            # Lazily, one block at a time: the reader hands out the same buffer again and again.
            for block in chain([bytes(offset - end)], _blocks(reader, key)):
                file.write(block)
                digest.update(block)
            end = file.tell()
            extents[key] = Extent(offset, end - offset)
        file.flush()
        os.fsync(file.fileno())  # the store does it again, when nothing is left to do: here nobody waits for it
    return DataFile(extents, digest.hexdigest())


def _blocks(reader: WeightsReader, key: str) -> Iterator[bytes | memoryview]:
    norm = _norm_after(key)
    if f"{norm}.running_var" not in reader.shapes:
        return reader.blocks(key)
    return iter([folded(reader, key, norm).astype("<f4").tobytes()])


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
