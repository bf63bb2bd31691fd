"""How a network is written as ONNX: what decides the file besides the network itself.

The standard library only: what a file would be, and how large, is known before torch or onnx is loaded.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from vggbench.artefacts.quantization import NO_CALIBRATION, QUANTIZED_PRECISIONS, Calibration, layout_of
from vggbench.artefacts.space import MIB
from vggbench.errors import RequestError
from vggbench.models.layers import Layer, mac_layers, walk
from vggbench.models.spec import ModelSpec

DEFAULT_OPSET = 20  # what torch's exporter recommends; has every type this project exports to but bf16
BF16_OPSET = 22  # the first whose convolutions and pools take bf16
OPSETS = range(18, 26)  # 18 is the lowest that the exporter writes (asked for less, it says nothing); 25 the last tried
SINGLE_FILE_BYTES = 2**31 - 1  # protobuf reads no larger message
BARE_BYTES = 1 << 17  # of a file without layers; the matrix of an adaptive pool is 7 times the input size
TENSOR_BYTES = 3 << 11  # beside its values: a gap of up to a page in front, its names, its share of the nodes
SCALE_BYTES = 16  # of an output channel: scale and zero point of its weights, its bias, and scale and zero of that
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")
TYPED_PRECISIONS = ("fp16", "bf16")  # those whose files have another type in place of fp32
ELEMENT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}  # of a weight
FP8_OPSET = 19  # the first that rounds to it
KEEP_FP32 = "keep_fp32"  # the name of the option in manifests, plans and rows


def default_opset(precision: str) -> int:
    """Return the opset of a file in a precision where none is asked for."""
    return BF16_OPSET if precision == "bf16" else DEFAULT_OPSET


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxForm:
    """What is asked for.

    Attributes:
        opset: version of ONNX's operators.
        fold_batch_norm: into the convolutions before them; otherwise they are nodes of their own.
        external_data: weights in a file beside the graph; otherwise both in one file.
        precision: of the file's types; its input and outputs are fp32 whatever it is.
        keep_fp32: names of the layers that stay fp32 in a file of another type, sorted.
        layout: where the quantisers of an int8 or fp8 file stand; empty for the others.
        calibration: what the ranges of such a file's activations are taken from.
    """

    opset: int = DEFAULT_OPSET
    fold_batch_norm: bool = True
    external_data: bool = True
    precision: str = "fp32"
    keep_fp32: tuple[str, ...] = ()
    layout: str = ""
    calibration: Calibration | None = None

    @classmethod
    def of_cell(cls, precision: str, export_options: Mapping[str, str], layout: str = "") -> Self:
        """Return the form of the file that a cell opens: its types, and what else was asked of the export."""
        kept = tuple(filter(None, export_options.get(KEEP_FP32, "").split(",")))
        calibration = Calibration.of_options(export_options) if precision in QUANTIZED_PRECISIONS else None
        opset = default_opset(precision)
        return cls(opset=opset, precision=precision, keep_fp32=kept, layout=layout, calibration=calibration)

    @property
    def asked_calibration(self) -> Calibration:
        """The calibration of an int8 or fp8 file; `RequestError` where none was asked for."""
        if self.calibration is None:
            raise RequestError(NO_CALIBRATION.format(precision=self.precision))
        return self.calibration

    @property
    def has_whole_biases(self) -> bool:
        """Whether biases are int32, in units of their products."""
        return (self.precision, self.layout) == ("int8", "ort")

    @property
    def parent(self) -> Self:
        """The form of the fp32 file that a typed one is made from: the usual one, as far as the opset allows."""
        usual = self.opset == default_opset(self.precision)
        opset = DEFAULT_OPSET if usual else self.opset
        plain = replace(self, precision="fp32", keep_fp32=(), layout="", calibration=None)
        return replace(plain, opset=opset, external_data=True)

    def options(self, spec: ModelSpec) -> dict[str, str]:
        """Return what is not the default and makes a difference to this network, as a manifest has it."""
        options = {"batch_norm": "nodes"} if self.kept_norms(spec) else {}
        if not self.external_data:
            options["weights"] = "inside"
        if self.calibration is not None:
            options |= {"layout": self.layout, **self.calibration.identity}
        return options | ({KEEP_FP32: ",".join(self.keep_fp32)} if self.keep_fp32 else {})

    def kept_norms(self, spec: ModelSpec) -> list[Layer]:
        """Return the batch norms that are nodes of their own."""
        return [] if self.fold_batch_norm else [layer for layer in walk(spec) if layer.operation == "batch_norm"]

    def keys(self, spec: ModelSpec) -> list[str]:
        """Return the tensors of the network's state that the file has, by their keys."""
        products = [f"{layer.name}.{part}" for layer in mac_layers(spec) for part in ("weight", "bias")]
        return products + [f"{layer.name}.{part}" for layer in self.kept_norms(spec) for part in NORM_PARTS]

    def bytes(self, spec: ModelSpec) -> int:
        """Return how large the files will be, at most."""
        values = sum(self._bytes(layer) for layer in (*mac_layers(spec), *self.kept_norms(spec)))
        return values + TENSOR_BYTES * len(self.keys(spec)) + BARE_BYTES

    def _bytes(self, layer: Layer) -> int:
        precision = "fp32" if layer.name in self.keep_fp32 else self.precision
        scales = SCALE_BYTES * layer.output_shape[1] if precision in QUANTIZED_PRECISIONS else 0
        return layer.weight_bytes // ELEMENT_BYTES["fp32"] * ELEMENT_BYTES[precision] + scales

    def check(self, spec: ModelSpec) -> None:
        """Raise `RequestError` for what cannot be had: an opset, a file too large to be one, layers that are not."""
        if self.opset not in OPSETS:
            default = default_opset(self.precision)
            limits = f"from {OPSETS[0]} to {OPSETS[-1]}"
            raise RequestError(f"opset {self.opset}: give one {limits}; the default is {default}")
        self._check_types(spec)
        if not self.external_data and self.bytes(spec) > SINGLE_FILE_BYTES:
            raise RequestError(
                f"{spec.variant} would be a single file of {self.bytes(spec) / MIB:.0f} MiB, and ONNX's format ends at "
                f"{SINGLE_FILE_BYTES // MIB} MiB; write it with external data"
            )

    def _check_types(self, spec: ModelSpec) -> None:
        if self.precision not in ELEMENT_BYTES:
            raise RequestError(f"no file of precision {self.precision!r} is written; give {', '.join(ELEMENT_BYTES)}")
        if self.precision == "bf16" and self.opset < BF16_OPSET:
            raise RequestError(
                f"opset {self.opset} has no bf16 convolution; leave --opset out, or give {BF16_OPSET} to {OPSETS[-1]}"
            )
        if self.precision in QUANTIZED_PRECISIONS:
            self._check_quantization()
        if self.precision not in TYPED_PRECISIONS and self.keep_fp32:
            raise RequestError(
                f"layers cannot be kept in fp32 in a file of {self.precision}; give precision "
                f"{' or '.join(TYPED_PRECISIONS)}"
            )
        if self.precision != "fp32" and self.kept_norms(spec):
            raise RequestError(
                f"batch norms are folded in fp32 before weights are rounded to {self.precision}; they cannot be kept"
            )
        check_layers(spec, self.keep_fp32)

    def _check_quantization(self) -> None:
        if self.precision == "fp8" and self.opset < FP8_OPSET:
            raise RequestError(f"opset {self.opset} has no fp8; leave --opset out, or give {FP8_OPSET} to {OPSETS[-1]}")
        layout_of(self.precision, self.layout)
        _ = self.asked_calibration


def check_layers(spec: ModelSpec, names: tuple[str, ...]) -> None:
    """Raise `RequestError`, with the nearest names, where the network has no convolution or linear layer of a name."""
    layers = [layer.name for layer in mac_layers(spec)]
    for name in names:
        if name not in layers:
            near = difflib.get_close_matches(name, layers) or layers[:3]
            raise RequestError(
                f"{spec.variant} has no layer {name!r} to keep in fp32; did you mean {' or '.join(near)}?"
            )
