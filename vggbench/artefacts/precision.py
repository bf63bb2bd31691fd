"""An fp32 ONNX file as one whose types are fp16 or bf16: what a strongly typed engine runs, and nothing else.

Imports onnx inside its functions and no torch. The parent is the fp32 file, batch norms folded in it, so that it and
its child are of the same weights: rounded once more, to nearest, tensor by tensor while the parent's data is read and
hashed. Input and outputs stay fp32.

A weight that is beyond the type's range would be infinite, and the network's outputs with it: such a file is not
written. Weights that become 0, or subnormal and so lose digits, are counted, in the manifest's `facts` under
`rounding`: a type can be too small for some layers, which may then stay fp32.

`benchmarks/typed_files.py` holds this against exporting the cast module and against two converters.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact, check_hash
from vggbench.artefacts.external_data import Extent, read_external_data, refer, write_external_data
from vggbench.artefacts.onnx import DATA_FILE, ONNX_FILE, onnx_artefact
from vggbench.artefacts.onnx import missing_parts as fp32_missing_parts
from vggbench.artefacts.onnx_form import OnnxForm
from vggbench.artefacts.space import check_room
from vggbench.artefacts.store import Request, Written, exists, prepare, tool_versions
from vggbench.errors import ExportError
from vggbench.models.spec import ModelSpec
from vggbench.version import VERSION

if TYPE_CHECKING:
    import onnx

CONVERTERS = ("onnx", "numpy", "ml_dtypes")
SCHEME = 1  # raised when this module writes another file for the same parent and form
LOSSES = ("overflowed", "became_zero", "became_subnormal")
_MAGNITUDE = 0x7FFF  # all bits of a 16-bit type but the sign
# Of a 16-bit type's bits without the sign: infinity, and the smallest number with all digits.
_INFINITY = {"fp16": 0x7C00, "bf16": 0x7F80}
_SMALLEST_NORMAL = {"fp16": 0x0400, "bf16": 0x0080}
_LARGEST = {"fp16": "65504", "bf16": "3.39e38"}


def typed_artefact(spec: ModelSpec, exports: Path, form: OnnxForm, *, hash_existing: bool = False) -> Artefact:
    """Return the spec's ONNX file in the form's type, made from the fp32 file once and then found again.

    Raises what `onnx_artefact` does, and `ExportError` for weights that are too large for the type.
    """
    check_room(sum(missing_parts(spec, exports, form).values()), exports)
    parent = onnx_artefact(spec, exports, form=form.parent)
    request = _request(spec, parent, form)
    return prepare(request, exports, lambda folder: _write(spec, parent, form, folder), hash_existing=hash_existing)


def missing_parts(spec: ModelSpec, exports: Path, form: OnnxForm) -> dict[OnnxForm | None, int]:
    """Return the bytes that would be written by what they are of: the file, its parent, the weights (None)."""
    form.check(spec)
    missing = fp32_missing_parts(spec, exports, form.parent)
    if not missing and exists(_request(spec, onnx_artefact(spec, exports, form=form.parent), form), exports):
        return {}
    return missing | {form: form.bytes(spec)}


def _request(spec: ModelSpec, parent: Artefact, form: OnnxForm) -> Request:
    return Request(
        kind="onnx",
        format="onnx",
        main=ONNX_FILE,
        spec=spec,
        precision=form.precision,
        opset=form.opset,
        options=form.options(spec),
        parent=parent.sha256,
        material={
            "spec": spec.digest(),
            "onnx": parent.sha256,
            "exporters": {"vggbench": VERSION, "scheme": SCHEME, **tool_versions(*CONVERTERS)},
        },
    )


def _write(spec: ModelSpec, parent: Artefact, form: OnnxForm, folder: Path) -> Written:
    from vggbench.artefacts.onnx_check import check_onnx
    from vggbench.artefacts.typed_graph import type_graph

    model = _parents_graph(parent)
    type_graph(model, form)
    rounded = Rounded(form.precision)
    tensors = _rounded_tensors(parent, model, rounded)
    write = _write_two_files if form.external_data else _write_one_file
    hashes = write(model, tensors, folder)
    if complaint := rounded.complaint():
        raise ExportError(f"{spec.variant}: {complaint}")
    inputs, outputs = check_onnx(spec, form, folder / ONNX_FILE)
    return Written(
        inputs=inputs,
        outputs=outputs,
        tools=tool_versions(*CONVERTERS),
        sha256=hashes,
        facts={"rounding": rounded.to_json()},
    )


def _parents_graph(parent: Artefact) -> onnx.ModelProto:
    import onnx

    content = parent.path.read_bytes()
    check_hash(parent.path, hashlib.sha256(content).hexdigest(), parent.files[ONNX_FILE])
    model: onnx.ModelProto = onnx.load_model_from_string(content)
    return model


Tensors = Iterator[tuple[str, bytes | memoryview]]


def _write_two_files(model: onnx.ModelProto, tensors: Tensors, folder: Path) -> dict[str, str]:
    data = write_external_data(tensors, folder / DATA_FILE)
    refer(model.graph, DATA_FILE, data.extents)
    content = model.SerializeToString(deterministic=True)
    (folder / ONNX_FILE).write_bytes(content)
    return {ONNX_FILE: hashlib.sha256(content).hexdigest(), DATA_FILE: data.sha256}


def _write_one_file(model: onnx.ModelProto, tensors: Tensors, folder: Path) -> dict[str, str]:
    from vggbench.artefacts.single_file import write_single_file

    keys = [tensor.name for tensor in model.graph.initializer if tensor.external_data]
    return {ONNX_FILE: write_single_file(model, tensors, keys, folder / ONNX_FILE)}


def _rounded_tensors(parent: Artefact, model: onnx.ModelProto, rounded: Rounded) -> Tensors:
    """Return (name, bytes) of the parent's large tensors in the types that the graph has for them by now."""
    import onnx

    tensors = [tensor for tensor in model.graph.initializer if tensor.data_location == tensor.EXTERNAL]
    dtypes = {tensor.name: onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type) for tensor in tensors}
    places = {tensor.name: {entry.key: entry.value for entry in tensor.external_data} for tensor in tensors}
    extents = {name: Extent(int(place["offset"]), int(place["length"])) for name, place in places.items()}

    def pieces() -> Tensors:
        for name, content in read_external_data(parent, DATA_FILE, extents):
            yield name, content if dtypes[name] == np.float32 else rounded.round(name, content, dtypes[name])

    return pieces()


@dataclass(slots=True)
class Rounded:
    """Weights rounded to a 16-bit type, and what became of them that were finite and not 0, by the layer.

    Attributes:
        precision: the type.
        weights: how many were rounded.
        layers: how many had each of `LOSSES`.
    """

    precision: str
    weights: int = 0
    layers: dict[str, Counter[str]] = field(default_factory=dict)

    def round(self, name: str, content: bytes | memoryview, dtype: np.dtype[Any]) -> bytes:
        """Return fp32 values of a layer's tensor, `features.0.weight`, in another type, as little-endian bytes."""
        exact = np.frombuffer(content, "<f4")
        with np.errstate(over="ignore"):  # they are counted
            bits: NDArray[np.uint16] = exact.astype(dtype).view("<u2")
        self.weights += exact.size
        self.layers.setdefault(name.rpartition(".")[0], Counter()).update(
            self._losses(exact, bits & np.uint16(_MAGNITUDE))
        )
        return bits.tobytes()

    def _losses(self, exact: NDArray[np.float32], magnitudes: NDArray[np.uint16]) -> dict[str, int]:
        zeros = magnitudes.size - int(np.count_nonzero(magnitudes))
        tiny = int(np.count_nonzero(magnitudes < _SMALLEST_NORMAL[self.precision]))
        infinite = int(np.count_nonzero(magnitudes == _INFINITY[self.precision]))
        return {
            "overflowed": infinite - int(np.count_nonzero(np.isinf(exact))),
            "became_zero": zeros - (exact.size - int(np.count_nonzero(exact))),
            "became_subnormal": tiny - zeros,
        }

    def complaint(self) -> str:
        """Say which layers are too large for the type, and what to do; empty if none is."""
        found = {name: lost["overflowed"] for name, lost in self.layers.items() if lost["overflowed"]}
        if not found:
            return ""
        counts = ", ".join(f"{count} of {name}" for name, count in found.items())
        other = " or export bf16" if self.precision == "fp16" else ""
        return (
            f"weights would be infinite in {self.precision}, which ends at {_LARGEST[self.precision]}: {counts}; "
            f"keep these layers in fp32 (--keep-fp32 {','.join(found)}){other}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the counts in all and, of layers that lost any, by the layer."""
        counts = {name: {loss: lost[loss] for loss in LOSSES} for name, lost in self.layers.items()}
        total = {loss: sum(lost[loss] for lost in counts.values()) for loss in LOSSES}
        return {
            "weights": self.weights,
            **total,
            "layers": {name: lost for name, lost in counts.items() if any(lost.values())},
        }
