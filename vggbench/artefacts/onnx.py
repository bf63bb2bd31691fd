"""A model spec as an ONNX file that explains itself, with its weights beside it.

Imports torch and onnx inside its functions, and none of them when the file exists already.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from vggbench.artefacts.artefact import Artefact, check_files
from vggbench.artefacts.external_data import DataFile, write_external_data
from vggbench.artefacts.manifest import canonical_json
from vggbench.artefacts.store import Request, Written, portable_spec, prepare, tool_versions
from vggbench.artefacts.weights import weights_artefact
from vggbench.errors import RequestError
from vggbench.models.layers import mac_layers
from vggbench.models.spec import ModelSpec
from vggbench.version import VERSION

if TYPE_CHECKING:
    import onnx_ir

ONNX_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"
DEFAULT_OPSET = 20  # what torch's exporter recommends; has every type this project exports to but bf16
OPSETS = range(18, 26)  # 18 is the lowest that the exporter writes (asked for less, it says nothing); 25 the last tried
EXPORTERS = ("torch", "onnx", "onnxscript", "onnx-ir")
EXPORT_SCHEME = 1  # raised when this package writes another file for the same request
SPEC_PROPERTY, VERSION_PROPERTY = "vggbench.model_spec", "vggbench.version"


def onnx_artefact(
    spec: ModelSpec,
    exports: Path,
    weights: Artefact | None = None,
    opset: int = DEFAULT_OPSET,
    dynamic: tuple[str, ...] = ("batch",),
    *,
    hash_existing: bool = False,
) -> Artefact:
    """Return the spec's ONNX file in fp32, exported once and then found again.

    Its input is `input` (batch, 3, S, S), its output `logits` (batch, classes); with probabilities asked for, these
    come first, under their name.

    Args:
        spec: what to export.
        exports: the folder that artefacts are kept in.
        weights: the spec's weights artefact; made when it is not given.
        opset: version of ONNX's operators.
        dynamic: names of the free dimensions.
        hash_existing: hash a file that exists already; without it only its size is looked at.

    Raises:
        RequestError: an opset or a free dimension that cannot be had.
        ExportError: the exporter failed, or wrote something other than what was asked.
    """
    check_request(spec, opset, dynamic)
    weights = weights or weights_artefact(spec, exports)
    request = _request(spec, weights, opset)
    return prepare(request, exports, lambda folder: _write(spec, opset, weights, folder), hash_existing=hash_existing)


def check_request(spec: ModelSpec, opset: int, dynamic: tuple[str, ...] = ("batch",)) -> None:
    """Raise `RequestError` for an opset or a free dimension that cannot be had."""
    if opset not in OPSETS:
        raise RequestError(f"opset {opset}: give one from {OPSETS[0]} to {OPSETS[-1]}; the default is {DEFAULT_OPSET}")
    if dynamic != ("batch",):
        why = "fixes its pool's bins" if spec.head == "adaptive" else "sizes its first linear layer"
        raise RequestError(
            f"dynamic dimensions {', '.join(dynamic) or 'none'}: only the batch is free; the {spec.head} head {why} "
            "to the input size, so export once for each --input-size"
        )


def _request(spec: ModelSpec, weights: Artefact, opset: int) -> Request:
    return Request(
        kind="onnx",
        format="onnx",
        main=ONNX_FILE,
        spec=spec,
        precision="fp32",
        opset=opset,
        parent=weights.sha256,
        material={
            "spec": spec.digest(),
            "weights": weights.sha256,
            "exporters": {"vggbench": VERSION, "scheme": EXPORT_SCHEME, **tool_versions(*EXPORTERS)},
        },
    )


def _write(spec: ModelSpec, opset: int, weights: Artefact, folder: Path) -> Written:
    """Write both files: the weights by a thread of their own, since reading, hashing and writing leave Python alone."""
    from vggbench.artefacts.onnx_check import check_onnx

    keys = [f"{layer.name}.{parameter}" for layer in mac_layers(spec) for parameter in ("weight", "bias")]
    with ThreadPoolExecutor(max_workers=1) as pool:
        copying = pool.submit(_copy_weights, weights, keys, folder / DATA_FILE)
        model = _trace(spec, opset)
        data = copying.result()
    content = _serialised(spec, model, data)
    (folder / ONNX_FILE).write_bytes(content)
    inputs, outputs = check_onnx(spec, opset, folder / ONNX_FILE)
    hashes = {ONNX_FILE: hashlib.sha256(content).hexdigest(), DATA_FILE: data.sha256}
    return Written(inputs=inputs, outputs=outputs, tools=tool_versions(*EXPORTERS), sha256=hashes)


def _trace(spec: ModelSpec, opset: int) -> onnx_ir.Model:
    from vggbench.artefacts.graph import skeleton, trace

    return trace(spec, skeleton(spec), opset)


def _copy_weights(weights: Artefact, keys: list[str], path: Path) -> DataFile:
    check_files(weights)
    return write_external_data(weights.path, keys, path)


def _serialised(spec: ModelSpec, model: onnx_ir.Model, data: DataFile) -> bytes:
    """Return the file's bytes: the graph, pointing into the data file, and what explains it."""
    import onnx_ir

    _refer(model, data)
    model.metadata_props[SPEC_PROPERTY] = canonical_json(portable_spec(spec))
    model.metadata_props[VERSION_PROPERTY] = VERSION
    content: bytes = onnx_ir.to_proto(model).SerializeToString(deterministic=True)
    return content


def _refer(model: onnx_ir.Model, data: DataFile) -> None:
    """Let the graph's weights point into the data file."""
    import onnx_ir

    for key in data.extents.keys() & model.graph.initializers.keys():  # a lacking one is found by the file's check
        value, extent = model.graph.initializers[key], data.extents[key]
        shape = onnx_ir.Shape(value.shape or ())
        value.const_value = onnx_ir.ExternalTensor(
            DATA_FILE, extent.offset, extent.length, onnx_ir.DataType.FLOAT, shape=shape, name=key
        )
