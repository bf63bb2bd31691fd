"""An fp32 ONNX file as one that computes in 8 bits: quantisers put into its graph, its weights rounded.

The weights are read, rounded and written block by block. Imports onnx inside its functions, and not at all when the
file exists already.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact, check_files
from vggbench.artefacts.calibration import Ranges, ranges_artefact, ranges_request, read_ranges
from vggbench.artefacts.external_data import refer, write_external_data
from vggbench.artefacts.manifest import canonical_json, read_manifest
from vggbench.artefacts.onnx import DATA_FILE, ONNX_FILE, onnx_artefact
from vggbench.artefacts.onnx import missing_parts as fp32_missing_parts
from vggbench.artefacts.onnx_form import OnnxForm
from vggbench.artefacts.qdq import (
    BIAS,
    IMAGE,
    PRODUCTS,
    WEIGHT,
    Grid,
    activation_grid,
    insert_quantizers,
    least_scales,
    numbers_of,
    quantized_bias,
    quantized_rows,
    sources,
    weight_type,
)
from vggbench.artefacts.quantization import CALIBRATION_SHA256, HASH_CHARACTERS
from vggbench.artefacts.space import check_room
from vggbench.artefacts.store import Request, TensorShape, Written, exists, prepare, tool_versions
from vggbench.models.spec import ModelSpec
from vggbench.version import VERSION

if TYPE_CHECKING:
    import onnx

SCHEME = 1  # raised when this package writes another file for the same request
PROPERTY = "vggbench.quantization"


def quantized_artefact(spec: ModelSpec, exports: Path, form: OnnxForm, *, hash_existing: bool = False) -> Artefact:
    """Return the spec's int8 or fp8 file, made from the fp32 one with folded batch norms once and then found again.

    Its input and outputs are fp32. Raises what `onnx_artefact` does, `CalibrationError` for images that ranges cannot
    be taken from, and `ExportError` if what was written is not what was asked.
    """
    check_room(sum(missing_parts(spec, exports, form).values()), exports)
    parent = onnx_artefact(spec, exports, form=form.parent)
    ranges = ranges_artefact(spec, exports, parent, form.asked_calibration)
    request = _request(spec, parent, ranges, form)
    return prepare(
        request,
        exports,
        lambda folder: _write(spec, request, parent, ranges, form, folder),
        hash_existing=hash_existing,
    )


def missing_parts(spec: ModelSpec, exports: Path, form: OnnxForm) -> dict[OnnxForm | None, int]:
    """Return the bytes that would be written by what they are of: the file, its parent, the weights (None)."""
    form.check(spec)
    missing = fp32_missing_parts(spec, exports, form.parent)
    return {} if not missing and _is_made(spec, exports, form) else missing | {form: form.bytes(spec)}


def _is_made(spec: ModelSpec, exports: Path, form: OnnxForm) -> bool:
    parent = onnx_artefact(spec, exports, form=form.parent)
    if not exists(ranges_request(spec, parent, form.asked_calibration), exports):
        return False
    ranges = ranges_artefact(spec, exports, parent, form.asked_calibration)
    return exists(_request(spec, parent, ranges, form), exports)


def _request(spec: ModelSpec, parent: Artefact, ranges: Artefact, form: OnnxForm) -> Request:
    seen = {CALIBRATION_SHA256: read_ranges(ranges).sha256[:HASH_CHARACTERS]}  # a folder has the hash of its set
    return Request(
        kind="onnx",
        format="onnx",
        main=ONNX_FILE,
        spec=spec,
        precision=form.precision,
        opset=form.opset,
        options=seen | form.options(spec),
        parent=parent.sha256,
        material={
            "spec": spec.digest(),
            "onnx": parent.sha256,
            "ranges": ranges.sha256,
            "exporters": {"vggbench": VERSION, "scheme": SCHEME, **tool_versions("onnx", "numpy")},
        },
    )


def _write(
    spec: ModelSpec, request: Request, parent: Artefact, ranges: Artefact, form: OnnxForm, folder: Path
) -> Written:
    import onnx

    from vggbench.artefacts.quantize_check import check_quantized

    check_files(parent)
    model = onnx.load(parent.path, load_external_data=False)
    grids = _grids(model.graph, read_ranges(ranges).ranges, form)
    weights = _Weights(Path(parent.folder), model.graph, form)
    data = write_external_data(weights.tensors(grids), folder / DATA_FILE)
    insert_quantizers(model.graph, grids, weights.names)
    weights.replace_initializers()
    refer(model.graph, DATA_FILE, data.extents)
    model.metadata_props.add(key=PROPERTY, value=canonical_json(dict(request.options)))
    (folder / ONNX_FILE).write_bytes(model.SerializeToString(deterministic=True))
    check_quantized(spec, form, folder / ONNX_FILE)
    inputs, outputs = _interface(parent)
    hashes = {DATA_FILE: data.sha256} if form.external_data else _put_inside(folder)
    return Written(inputs=inputs, outputs=outputs, tools=tool_versions("onnx", "numpy"), sha256=hashes)


def _put_inside(folder: Path) -> dict[str, str]:
    """Let the graph's file have the weights, which are a quarter of what the network has, and return no hash."""
    import onnx

    onnx.save(onnx.load(folder / ONNX_FILE), folder / ONNX_FILE)
    (folder / DATA_FILE).unlink()
    return {}


def _grids(graph: onnx.GraphProto, ranges: Ranges, form: OnnxForm) -> dict[str, Grid]:
    """Return the grid of every tensor that is rounded."""
    return {
        name: activation_grid(*ranges[origin], form.precision, form.layout)
        for name, origin in sources(graph, form.layout).items()
    }


def _products(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [node for node in graph.node if node.op_type in PRODUCTS]


def _interface(parent: Artefact) -> tuple[tuple[TensorShape, ...], tuple[TensorShape, ...]]:
    manifest = read_manifest(Path(parent.folder))
    inputs, outputs = (
        tuple((tensor.name, tensor.dtype, tensor.shape) for tensor in tensors)
        for tensors in (manifest.inputs, manifest.outputs)
    )
    return inputs, outputs


class _Weights:
    """Rounds the weights of one product after the other, and keeps what the graph has to say of them."""

    def __init__(self, folder: Path, graph: onnx.GraphProto, form: OnnxForm) -> None:
        self._folder, self._graph, self._precision = folder, graph, form.precision
        self._whole_bias = form.has_whole_biases
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._made: list[onnx.TensorProto] = []
        self._inside: dict[str, onnx.TensorProto] = {}
        self.names: set[str] = set()

    def tensors(self, grids: dict[str, Grid]) -> Iterator[tuple[str, bytes]]:
        """Yield (name, bytes) of the weights in 8 bits, a large one in several pieces."""
        for node in _products(self._graph):
            weight, bias, step = node.input[WEIGHT], np.array(self._values(node.input[BIAS])), grids[node.input[IMAGE]]
            least = least_scales(bias, step.scale) if self._whole_bias else np.zeros(len(bias))
            found = []
            for scales, numbers in quantized_rows(self._values(weight), self._precision, least):
                found.append(scales)
                yield numbers_of(weight)[0], numbers.tobytes()
            scales = np.concatenate(found)
            self._keep_weight(weight, scales)
            self._keep_bias(node.input[BIAS], bias, step, scales)

    def _keep_weight(self, name: str, scales: NDArray[np.float32]) -> None:
        import onnx

        kind = getattr(onnx.TensorProto, weight_type(self._precision))
        self._made.append(onnx.TensorProto(name=numbers_of(name)[0], data_type=kind, dims=self._stored[name].dims))
        self._keep_scales(name, scales, kind)

    def _keep_bias(self, name: str, bias: NDArray[np.float32], step: Grid, scales: NDArray[np.float32]) -> None:
        import onnx

        if self._whole_bias:
            bias_scales, numbers = quantized_bias(bias, step.scale, scales)
            self._made.append(onnx.numpy_helper.from_array(numbers, numbers_of(name)[0]))
            self._keep_scales(name, bias_scales, onnx.TensorProto.INT32)
        else:
            self._inside[name] = onnx.numpy_helper.from_array(bias, name)

    def _keep_scales(self, name: str, scales: NDArray[np.float32], kind: int) -> None:
        import onnx

        _numbers, scale, zero = numbers_of(name)
        zeros = np.zeros(len(scales), dtype=onnx.helper.tensor_dtype_to_np_dtype(kind))
        self._made += [onnx.numpy_helper.from_array(scales, scale), onnx.numpy_helper.from_array(zeros, zero)]
        self.names.add(name)

    def _values(self, name: str) -> NDArray[Any]:
        """Return a stored tensor; one that lies in a file stays there."""
        import onnx

        tensor = self._stored[name]
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            return onnx.numpy_helper.to_array(tensor)
        place = {entry.key: entry.value for entry in tensor.external_data}
        return np.memmap(self._folder / place["location"], "<f4", "r", int(place["offset"]), tuple(tensor.dims))

    def replace_initializers(self) -> None:
        """Let the graph have what was made in place of what it was made from."""
        kept = [
            self._inside.get(tensor.name, tensor) for tensor in self._graph.initializer if tensor.name not in self.names
        ]
        del self._graph.initializer[:]
        self._graph.initializer.extend([*kept, *self._made])
