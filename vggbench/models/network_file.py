"""A network that is given as an ONNX file: what the rest has to know of it without opening it.

The standard library only: plans, rows and manifests carry it where a VGG's have a model spec.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vggbench.errors import RequestError
from vggbench.models.fields import checked_fields
from vggbench.models.spec import ModelSpec

VARIANT_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFile:
    """One ONNX file, its weights included; `artefacts.network_file` reads it.

    Attributes:
        variant: the file's name without its ending, with nothing in it but letters, digits, `_`, `-` and `.`.
        path: absolute.
        sha256: over the file and what it keeps beside it: the hash of the artefact that it becomes.
        input_name: of the image input `(N, 3, input_size, input_size)`.
        output_name: of the output `(N, num_classes)`.
        batch_size: the only one that the file takes; 0 where it takes any.
        parameters: floating-point values that it stores, statistics of batch norms not counted.
        weights_type: what these are stored in: `fp32`, `fp16`, ..., joined by `+`.
    """

    variant: str
    path: str
    sha256: str
    input_name: str
    output_name: str
    input_size: int
    num_classes: int
    batch_size: int
    parameters: int
    weights_type: str

    def __post_init__(self) -> None:
        if not re.fullmatch(VARIANT_NAME, self.variant):  # a folder is named by it
            raise RequestError(f"network file: variant is {self.variant!r}, not letters, digits, '_', '-' and '.'")
        if min(self.input_size, self.num_classes) < 1 or min(self.batch_size, self.parameters) < 0:
            raise RequestError(f"network file: a size of {self.variant} is below what it can be")

    def batch_sizes(self, asked: list[int], *, chosen: bool) -> list[int]:
        """Return the batch sizes to measure; `RequestError` where others were chosen than the only one it takes."""
        if not self.batch_size or asked == [self.batch_size]:
            return asked
        if chosen:
            sizes = ", ".join(map(str, asked))
            raise RequestError(f"{self.variant} takes batches of {self.batch_size} images only; {sizes} was asked for")
        return [self.batch_size]

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NetworkFile:
        """Rebuild it; `RequestError` names the field that is missing, unknown or of a wrong type."""
        return cls(**checked_fields(cls, data, "network file"))

    def digest(self) -> str:
        """Return 16 hex characters that name the function: the same for the same content wherever the file lies."""
        content = {"onnx": self.sha256, "input_size": self.input_size}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


Network = ModelSpec | NetworkFile


def network_from_json(data: Mapping[str, Any]) -> Network:
    """Return what an artefact's or a manifest's `spec` stands for."""
    return NetworkFile.from_json(data) if "path" in data else ModelSpec.from_json(data)
