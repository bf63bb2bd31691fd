"""A model spec as an ONNX file that explains itself, with its weights beside it.

Imports torch and onnx inside its functions, and none of them when the file exists already.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Self

from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.external_data import Extent, read_tensors, write_external_data
from vggbench.artefacts.frames import in_one_piece
from vggbench.artefacts.manifest import canonical_json
from vggbench.artefacts.onnx_form import OnnxForm
from vggbench.artefacts.space import check_room
from vggbench.artefacts.store import Request, Written, exists, garbage_left, portable_spec, prepare, tool_versions
from vggbench.artefacts.weights import has_weights, weights_artefact, weights_bytes
from vggbench.errors import RequestError
from vggbench.models.description import describe
from vggbench.models.spec import ModelSpec
from vggbench.version import VERSION

if TYPE_CHECKING:
    import onnx
    import onnx_ir

ONNX_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"
DEFAULT_FORM = OnnxForm()
EXPORTERS = ("torch", "onnx", "onnxscript", "onnx-ir")
EXPORT_SCHEME = 2  # raised when this package writes another file for the same request
DESCRIPTION_SCHEME = 1  # raised when a description is written otherwise into the file
SWITCH_INTERVAL_S = 0.0005  # a tenth of Python's own
SPEC_PROPERTY, VERSION_PROPERTY = "vggbench.model_spec", "vggbench.version"


def onnx_artefact(
    spec: ModelSpec,
    exports: Path,
    weights: Artefact | None = None,
    form: OnnxForm = DEFAULT_FORM,
    dynamic: tuple[str, ...] = ("batch",),
    *,
    hash_existing: bool = False,
) -> Artefact:
    """Return the spec's ONNX file in fp32, exported once and then found again; `exported` has those of other types.

    Its input is `input` (batch, 3, S, S), its output `logits` (batch, classes); with probabilities asked for, these
    come first, under their name.

    Args:
        spec: what to export.
        exports: the folder that artefacts are kept in.
        weights: the spec's weights artefact; made when it is not given.
        form: how it is written.
        dynamic: names of the free dimensions.
        hash_existing: hash a file that exists already; without it only its size is looked at.

    Raises:
        RequestError: an opset, a free dimension or a single file that cannot be had.
        DiskSpaceError: there is no room for the files.
        ExportError: the exporter failed, or wrote something other than what was asked.
    """
    _check_dynamic(spec, dynamic)
    check_room(missing_bytes(spec, exports, form), exports)
    with garbage_left(), _Tracing(spec, form) as tracing:
        if weights is None:
            if not has_weights(spec, exports):
                tracing.start()  # there cannot be a file of weights that are still to be drawn
            weights = weights_artefact(spec, exports)
        made_of = weights
        return prepare(
            _request(spec, weights, form),
            exports,
            lambda folder: _write(tracing, made_of, folder),
            hash_existing=hash_existing,
        )


def missing_bytes(spec: ModelSpec, exports: Path, form: OnnxForm = DEFAULT_FORM) -> int:
    """Return how much would be written, at most: 0 if all of it is there; `RequestError` if it cannot be had."""
    return sum(missing_parts(spec, exports, form).values())


def missing_parts(spec: ModelSpec, exports: Path, form: OnnxForm) -> dict[OnnxForm | None, int]:
    """Return the bytes that would be written for the file of a form, and for the weights (None) that it is made of."""
    form.check(spec)
    if not has_weights(spec, exports):
        return {None: weights_bytes(spec), form: form.bytes(spec)}
    made = exists(_request(spec, weights_artefact(spec, exports), form), exports)
    return {} if made else {form: form.bytes(spec)}


def _check_dynamic(spec: ModelSpec, dynamic: tuple[str, ...]) -> None:
    if dynamic != ("batch",):
        why = "fixes its pool's bins" if spec.head == "adaptive" else "sizes its first linear layer"
        raise RequestError(
            f"dynamic dimensions {', '.join(dynamic) or 'none'}: only the batch is free; the {spec.head} head {why} "
            "to the input size, so export once for each --input-size"
        )


def _request(spec: ModelSpec, weights: Artefact, form: OnnxForm) -> Request:
    exporters = {"vggbench": VERSION, "scheme": EXPORT_SCHEME, **tool_versions(*EXPORTERS)}
    # A file of weights that may describe themselves has it in it; no other than before is made for generated ones.
    described = {} if spec.has_generated_weights else {"description": DESCRIPTION_SCHEME}
    return Request(
        kind="onnx",
        format="onnx",
        main=ONNX_FILE,
        spec=spec,
        precision="fp32",
        opset=form.opset,
        options=form.options(spec),
        parent=weights.sha256,
        material={
            "spec": spec.digest(),
            "weights": weights.sha256,
            "exporters": exporters | described,
        },
    )


class _Turns:
    """How long a thread may keep the others of this process from Python's interpreter."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._hasty = 0
        self._usual_s = 0.0

    def hasten(self) -> None:
        """Let threads take shorter turns, until as many have called `calm` as called this."""
        with self._lock:
            if not self._hasty:
                self._usual_s = sys.getswitchinterval()
                sys.setswitchinterval(SWITCH_INTERVAL_S)
            self._hasty += 1

    def calm(self) -> None:
        with self._lock:
            self._hasty -= 1
            if not self._hasty:
                sys.setswitchinterval(self._usual_s)


_turns = _Turns()


class _Tracing:
    """Traces the graph, which knows no weights, in a thread of its own while these are drawn, hashed and written.

    Those leave Python alone for most of the time; a thread that traces would keep them waiting for it 5 ms each time.
    """

    def __init__(self, spec: ModelSpec, form: OnnxForm) -> None:
        self.spec = spec
        self.form = form
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._model: Future[onnx_ir.Model] | None = None

    def __enter__(self) -> Self:
        _turns.hasten()
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.shutdown()
        _turns.calm()

    def start(self) -> None:
        """Begin, unless it has begun."""
        import torch  # noqa: F401 - by one thread, before two need it

        self._model = self._model or self._pool.submit(_trace, self.spec, self.form)

    def model(self) -> onnx_ir.Model:
        """Wait for the graph; raises what tracing raises."""
        self.start()
        assert self._model is not None
        return self._model.result()


def _write(tracing: _Tracing, weights: Artefact, folder: Path) -> Written:
    from vggbench.artefacts.onnx_check import check_onnx

    spec, form = tracing.spec, tracing.form
    tracing.start()
    write = _write_two_files if form.external_data else _write_one_file
    hashes = write(tracing, weights, folder)
    inputs, outputs = check_onnx(spec, form, folder / ONNX_FILE)
    return Written(inputs=inputs, outputs=outputs, tools=tool_versions(*EXPORTERS), sha256=hashes)


def _write_two_files(tracing: _Tracing, weights: Artefact, folder: Path) -> dict[str, str]:
    """Write the weights while the graph is still traced, then the graph; return the SHA-256 of each by name."""
    tensors = read_tensors(weights, tracing.form.keys(tracing.spec))
    data = write_external_data(tensors, folder / DATA_FILE)
    content = _message(tracing.spec, tracing.model(), data.extents).SerializeToString(deterministic=True)
    (folder / ONNX_FILE).write_bytes(content)
    return {ONNX_FILE: hashlib.sha256(content).hexdigest(), DATA_FILE: data.sha256}


def _write_one_file(tracing: _Tracing, weights: Artefact, folder: Path) -> dict[str, str]:
    from vggbench.artefacts.single_file import write_single_file

    keys = tracing.form.keys(tracing.spec)
    message = _message(tracing.spec, tracing.model(), dict.fromkeys(keys, Extent(0, 0)))
    return {ONNX_FILE: write_single_file(message, read_tensors(weights, keys), keys, folder / ONNX_FILE)}


def _trace(spec: ModelSpec, form: OnnxForm) -> onnx_ir.Model:
    from vggbench.artefacts.graph import skeleton, trace

    return in_one_piece(lambda: trace(spec, skeleton(spec, fold_batch_norm=form.fold_batch_norm), form.opset))


def _message(spec: ModelSpec, model: onnx_ir.Model, extents: Mapping[str, Extent]) -> onnx.ModelProto:
    """Return the graph, pointing into the data file, and what explains it."""
    import onnx_ir

    _refer(model, extents)
    model.metadata_props[SPEC_PROPERTY] = canonical_json(portable_spec(spec))
    model.metadata_props[VERSION_PROPERTY] = VERSION
    model.metadata_props.update(describe(spec).metadata())
    return onnx_ir.to_proto(model)


def _refer(model: onnx_ir.Model, extents: Mapping[str, Extent]) -> None:
    """Let the graph's weights point into the data file."""
    import onnx_ir

    for key in extents.keys() & model.graph.initializers.keys():  # a lacking one is found by the file's check
        value, extent = model.graph.initializers[key], extents[key]
        shape = onnx_ir.Shape(value.shape or ())
        value.const_value = onnx_ir.ExternalTensor(
            DATA_FILE, extent.offset, extent.length, onnx_ir.DataType.FLOAT, shape=shape, name=key
        )
