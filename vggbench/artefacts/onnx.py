"""A model spec as an ONNX file that explains itself, with its weights beside it.

Imports torch and onnx inside its functions, and none of them when the file exists already.
"""

from __future__ import annotations

import hashlib
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self

from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.external_data import DataFile, write_external_data
from vggbench.artefacts.manifest import canonical_json
from vggbench.artefacts.store import Request, Written, garbage_left, portable_spec, prepare, tool_versions
from vggbench.artefacts.weights import has_weights, weights_artefact
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
EXPORT_SCHEME = 2  # raised when this package writes another file for the same request
SWITCH_INTERVAL_S = 0.0005  # a tenth of Python's own
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
    with garbage_left(), _Tracing(spec, opset) as tracing:
        if weights is None:
            if not has_weights(spec, exports):
                tracing.start()  # there cannot be a file of weights that are still to be drawn
            weights = weights_artefact(spec, exports)
        made_of = weights
        return prepare(
            _request(spec, weights, opset),
            exports,
            lambda folder: _write(spec, opset, made_of, folder, tracing),
            hash_existing=hash_existing,
        )


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


class _Tracing:
    """Traces the graph, which knows no weights, in a thread of its own while these are drawn, hashed and written.

    Those leave Python alone for most of the time; a thread that traces would keep them waiting for it 5 ms each time.
    """

    def __init__(self, spec: ModelSpec, opset: int) -> None:
        self._spec = spec
        self._opset = opset
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._model: Future[onnx_ir.Model] | None = None
        self._switch_interval_s = sys.getswitchinterval()

    def __enter__(self) -> Self:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.shutdown()
        sys.setswitchinterval(self._switch_interval_s)

    def start(self) -> None:
        """Begin, unless it has begun."""
        import torch  # noqa: F401 - by one thread, before two need it

        self._model = self._model or self._pool.submit(_trace, self._spec, self._opset)

    def model(self) -> onnx_ir.Model:
        """Wait for the graph; raises what tracing raises."""
        self.start()
        assert self._model is not None
        return self._model.result()


def _write(spec: ModelSpec, opset: int, weights: Artefact, folder: Path, tracing: _Tracing) -> Written:
    from vggbench.artefacts.onnx_check import check_onnx

    tracing.start()
    keys = [f"{layer.name}.{parameter}" for layer in mac_layers(spec) for parameter in ("weight", "bias")]
    data = write_external_data(weights, keys, folder / DATA_FILE)
    content = _serialised(spec, tracing.model(), data)
    (folder / ONNX_FILE).write_bytes(content)
    inputs, outputs = check_onnx(spec, opset, folder / ONNX_FILE)
    hashes = {ONNX_FILE: hashlib.sha256(content).hexdigest(), DATA_FILE: data.sha256}
    return Written(inputs=inputs, outputs=outputs, tools=tool_versions(*EXPORTERS), sha256=hashes)


def _trace(spec: ModelSpec, opset: int) -> onnx_ir.Model:
    from vggbench.artefacts.graph import skeleton, trace

    return trace(spec, skeleton(spec), opset)


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
