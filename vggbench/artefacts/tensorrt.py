"""An ONNX file as a TensorRT engine, with proof of the types that it computes in.

Imports no TensorRT: `engine_builder` does, in a process of its own. An engine is found again by the file that it was
built from, the options and the versions, never by its bytes, which differ from build to build.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vggbench.artefacts import exported as onnx
from vggbench.artefacts.artefact import Artefact, check_files
from vggbench.artefacts.engine_caches import TIMINGS, cache_path
from vggbench.artefacts.engine_form import LAYOUT, EngineForm
from vggbench.artefacts.engine_inspection import read_inspection
from vggbench.artefacts.engine_layers import census, check_types, product_types, product_weights, read_layers
from vggbench.artefacts.engine_process import BUILD_TIMEOUT_S, Progress, build_engine, no_progress
from vggbench.artefacts.manifest import read_manifest
from vggbench.artefacts.onnx_form import OnnxForm
from vggbench.artefacts.quantization import QUANTIZED_PRECISIONS
from vggbench.artefacts.space import MIB, check_room
from vggbench.artefacts.store import Request, TensorShape, Written, exists, prepare
from vggbench.artefacts.tensorrt_libraries import Library, find_library
from vggbench.environment.cuda_driver import alone, find_gpu
from vggbench.errors import ExportError, RequestError
from vggbench.models.layers import mac_layers
from vggbench.models.spec import ModelSpec
from vggbench.version import VERSION

PLAN_FILE = "model.plan"
SCHEME = 1  # raised when this package builds another engine for the same request
KERNEL_BYTES = 16 * MIB  # of an engine beside its weights: those of narrow networks were 0.3 (fp32) to 2 MiB (fp8)
_DTYPES = {"FLOAT": "float32"}  # of inputs and outputs, as manifests have them


def engine_artefact(
    spec: ModelSpec,
    exports: Path,
    form: OnnxForm,
    engine: EngineForm,
    progress: Progress = no_progress,
    *,
    device: str = "cuda",
    hash_existing: bool = False,
    timeout_s: float = BUILD_TIMEOUT_S,
) -> Artefact:
    """Return the spec's engine, built once from its ONNX file of the form, and then found again.

    `device` is the GPU that TensorRT 10 and 11 build for; engines of TensorRT for RTX are for every GPU.

    Raises what `exported` does for that file, `RequestError` for a library that is not installed or a layout that it
    does not take, and `ExportError` for a build that fails, takes longer than `timeout_s` seconds, or gives an engine
    that computes in other types than were asked for.
    """
    library = find_library(engine.library)
    check_room(missing_bytes(spec, exports, form, engine, device), exports)
    parent = onnx.exported(spec, exports, form)
    gpu = _gpu(library, device)

    def write(folder: Path) -> Written:
        check_files(parent)
        job = _job(parent, library, engine, folder) | {"timing_cache": _timing_cache(exports, library, gpu)}
        said = build_engine(job, progress, timeout_s, alone(device))
        _check_version(library, said["version"])
        return Written(
            inputs=_interface(said["inputs"]),
            outputs=_interface(said["outputs"]),
            tools={library.name: said["version"]},
            facts={
                **read_manifest(Path(parent.folder)).facts,
                **_proof(spec, form, engine, said),
                **({"gpu": gpu} if gpu else {}),
                **({"timing_cache_sha256": sha256} if (sha256 := said["timing_cache_sha256"]) else {}),
            },
        )

    return prepare(_request(spec, parent, form, engine, library, gpu), exports, write, hash_existing=hash_existing)


def missing_bytes(spec: ModelSpec, exports: Path, form: OnnxForm, engine: EngineForm, device: str = "cuda") -> int:
    """Return how much would be written, at most; `RequestError` for what cannot be had."""
    if form.precision in QUANTIZED_PRECISIONS and form.layout != LAYOUT:
        raise RequestError(f"layout {form.layout} is not TensorRT's; leave --layout out, or give {LAYOUT}")
    library = find_library(engine.library)
    missing = onnx.missing_bytes(spec, exports, [form])
    if not missing:
        parent = onnx.exported(spec, exports, form)
        request = _request(spec, parent, form, engine, library, _gpu(library, device))
        if exists(request, exports):
            return 0
    return missing + form.bytes(spec) + KERNEL_BYTES


def _gpu(library: Library, device: str) -> str:
    """Return the GPU that the library builds for, by name and compute capability; empty where it is none or any."""
    found = find_gpu(device) if library.name == "tensorrt" else None
    return found.identity if found else ""


def _timing_cache(exports: Path, library: Library, gpu: str) -> str | None:
    """Return where timings on the GPU are kept; None where nothing is timed while it is built."""
    return str(cache_path(exports, library.name, library.version, gpu, TIMINGS)) if gpu else None


def _request(
    spec: ModelSpec, parent: Artefact, form: OnnxForm, engine: EngineForm, library: Library, gpu: str = ""
) -> Request:
    return Request(
        kind="plan",
        format=library.name,
        main=PLAN_FILE,
        spec=spec,
        precision=form.precision,
        opset=form.opset,
        options=form.options(spec) | engine.options,
        parent=parent.sha256,
        material={
            "spec": spec.digest(),
            "onnx": parent.sha256,
            "builders": {"vggbench": VERSION, "scheme": SCHEME, library.name: library.version},
            **({"gpu": gpu} if gpu else {}),
        },
    )


def _job(parent: Artefact, library: Library, engine: EngineForm, folder: Path) -> dict[str, Any]:
    return {
        "module": library.module,
        "onnx": str(parent.path),
        "plan": str(folder / PLAN_FILE),
        "batch_sizes": engine.batch_sizes,
        "workspace_mib": engine.workspace_mib,
        "optimization_level": engine.optimization_level,
        "compute_capabilities": engine.compute_capabilities,
        "tf32": engine.tf32,
    }


def _check_version(library: Library, found: str) -> None:
    """Raise `ExportError` where another version built the engine than the one that it will be found again by."""
    if not library.version.startswith(found):  # the distribution's may have a build number more
        raise ExportError(
            f"{library.name} says that it is {found}, and its package that it is {library.version}; install it again"
        )


def _proof(spec: ModelSpec, form: OnnxForm, engine: EngineForm, said: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the list of its layers proves of the engine; `ExportError` where it is not what was asked."""
    layers = read_inspection(said["inspection"]) if said["inspection"] else read_layers(said["layers"])
    products = mac_layers(spec)
    found = product_types(layers, product_weights(products))
    asked = {layer.name: _asked(layer.name, form, engine) for layer in products}
    share = check_types(found, asked, {layer.name: layer.macs for layer in products})
    return {"engine_layers": census(layers), "product_types": found, "macs_in_asked_type": share}


def _asked(name: str, form: OnnxForm, engine: EngineForm) -> str:
    if name in form.keep_fp32:
        return "fp32"
    return "tf32" if engine.tf32 else form.precision


def _interface(tensors: list[tuple[str, str, list[int]]]) -> tuple[TensorShape, ...]:
    """Return inputs or outputs as a manifest has them."""
    return tuple(
        (name, _DTYPES.get(dtype, dtype), tuple("batch" if size < 0 else size for size in shape))
        for name, dtype, shape in tensors
    )
