"""The weights of an ONNX file, beside it: written straight from the weights file, hashed on the way.

Imports numpy alone. A batch norm is folded into the convolution before it here: in float64 and rounded once, so that
the fold costs no more than the rounding of its result.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact, check_hash
from vggbench.artefacts.streams import HashedFile
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


def write_external_data(weights: Artefact, keys: Collection[str], path: Path) -> DataFile:
    """Write the fp32 tensors of `keys` in the weights file's order, batch norms folded in, and say where they lie.

    Raises `ArtefactError` if the weights file is not what its manifest says: it is hashed as it is read.
    """
    reader = WeightsReader(weights.path)
    norms = {key: norm for key in keys if f"{(norm := _norm_after(key))}.running_var" in reader.shapes}
    wanted, digest = set(keys), hashlib.sha256()
    extents: dict[str, Extent] = {}
    with HashedFile(path) as file:
        for key, content in reader.stream(digest):
            if key not in wanted or (key in extents and key in norms):
                continue
            if key not in extents:
                file.write(bytes(-file.offset % ALIGNMENT))
                extents[key] = Extent(file.offset, 4 * math.prod(reader.shapes[key]))
            file.write(folded(reader, key, norms[key]).astype("<f4").tobytes() if key in norms else content)
    check_hash(weights.path, digest.hexdigest(), weights.files[weights.main])
    return DataFile(extents, file.sha256)


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
