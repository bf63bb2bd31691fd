"""How a network is written as ONNX: what decides the file besides the network itself.

The standard library only: what a file would be, and how large, is known before torch or onnx is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

from vggbench.artefacts.space import MIB
from vggbench.errors import RequestError
from vggbench.models.layers import Layer, mac_layers, walk
from vggbench.models.spec import ModelSpec

DEFAULT_OPSET = 20  # what torch's exporter recommends; has every type this project exports to but bf16
OPSETS = range(18, 26)  # 18 is the lowest that the exporter writes (asked for less, it says nothing); 25 the last tried
SINGLE_FILE_BYTES = 2**31 - 1  # protobuf reads no larger message
BARE_BYTES = 1 << 17  # of a file without layers; the matrix of an adaptive pool is 7 times the input size
TENSOR_BYTES = 3 << 11  # beside its values: a gap of up to a page in front, its names, its share of the nodes
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxForm:
    """What is asked for.

    Attributes:
        opset: version of ONNX's operators.
        fold_batch_norm: into the convolutions before them; otherwise they are nodes of their own.
        external_data: weights in a file beside the graph; otherwise both in one file.
    """

    opset: int = DEFAULT_OPSET
    fold_batch_norm: bool = True
    external_data: bool = True

    def options(self, spec: ModelSpec) -> dict[str, str]:
        """Return what is not the default and makes a difference to this network, as a manifest has it."""
        kept = {"batch_norm": "nodes"} if self.kept_norms(spec) else {}
        return kept if self.external_data else kept | {"weights": "inside"}

    def kept_norms(self, spec: ModelSpec) -> list[Layer]:
        """Return the batch norms that are nodes of their own."""
        return [] if self.fold_batch_norm else [layer for layer in walk(spec) if layer.operation == "batch_norm"]

    def keys(self, spec: ModelSpec) -> list[str]:
        """Return the tensors of the network's state that the file has, by their keys."""
        products = [f"{layer.name}.{part}" for layer in mac_layers(spec) for part in ("weight", "bias")]
        return products + [f"{layer.name}.{part}" for layer in self.kept_norms(spec) for part in NORM_PARTS]

    def bytes(self, spec: ModelSpec) -> int:
        """Return how large the files will be, at most."""
        values = sum(layer.weight_bytes for layer in (*mac_layers(spec), *self.kept_norms(spec)))
        return values + TENSOR_BYTES * len(self.keys(spec)) + BARE_BYTES

    def check(self, spec: ModelSpec) -> None:
        """Raise `RequestError` for an opset that cannot be had, or a file too large to be one."""
        if self.opset not in OPSETS:
            raise RequestError(
                f"opset {self.opset}: give one from {OPSETS[0]} to {OPSETS[-1]}; the default is {DEFAULT_OPSET}"
            )
        if not self.external_data and self.bytes(spec) > SINGLE_FILE_BYTES:
            raise RequestError(
                f"{spec.variant} would be a single file of {self.bytes(spec) / MIB:.0f} MiB, and ONNX's format ends at "
                f"{SINGLE_FILE_BYTES // MIB} MiB; write it with external data"
            )
