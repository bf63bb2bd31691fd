"""ONNX Runtime on the CPU provider: opens an ONNX artefact.

The session is opened with profiling on; `evidence` reads what the first requests recorded and turns it off, so
the proof comes from the very session that is timed afterwards, and timed requests run without the profiler. Times of
layers come from a session of their own, whose profiler stays on.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact
from vggbench.backends.base import (
    Available,
    Evidence,
    FileForm,
    LayerEvidence,
    LayerTime,
    Options,
    SessionContext,
    Support,
    Unavailable,
    tensor_specs,
)

_PROVIDER = "CPUExecutionProvider"
_LOG_ERRORS = 3  # ONNX Runtime's severity scale: 3 is error
_MAC_OPERATIONS = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
# What the optimiser adds to a node's name when it fuses nodes, or lays out a convolution by blocks of channels.
_REWRITTEN = re.compile(r"^fused |(_nchwc)?_kernel_time$")
_NOT_NATIVE = {
    "fp16": "widens fp16 to fp32",
    "bf16": "has no bf16 convolution",
    "tf32": "has no tf32: it is a mode of NVIDIA's GPUs",
}
_PRECISION_NAMES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8"}


class OnnxRuntimeBackend:
    """ONNX Runtime's CPU provider."""

    name = "onnxruntime"
    artefact_kind = "onnx"
    option_values: Mapping[str, tuple[str, ...]] = {}

    def availability(self, device: str) -> Available | Unavailable:
        """Import onnxruntime and say its version."""
        if device != "cpu":
            return Unavailable(f"onnxruntime is measured on the CPU only, not on {device}", "use --device cpu")
        try:
            import onnxruntime
        except (ImportError, OSError) as error:
            return Unavailable(f"onnxruntime cannot be imported: {error}", "pip install onnxruntime-gpu")
        return Available(str(onnxruntime.__version__))

    def supports(self, precision: str, device: str) -> Support:  # noqa: ARG002 - the CPU is the only device
        """Say yes to fp32 only."""
        if precision == "fp32":
            return Support(True)
        return Support(False, f"ONNX Runtime's CPU provider {_NOT_NATIVE.get(precision, f'has no native {precision}')}")

    def file_form(self, precision: str, options: Options) -> FileForm:  # noqa: ARG002 - there are none
        """Go by the file's types."""
        return FileForm(precision)

    def open(
        self,
        artefact: Artefact,
        *,
        device: str,  # noqa: ARG002 - availability refused all but the CPU
        precision: str,  # noqa: ARG002 - the file's types decide, and evidence reads them back
        batch_size: int,
        threads: int,
        in_flight: int,
        options: Options,  # noqa: ARG002 - there are none
    ) -> OnnxRuntimeSession:
        """Open the file with one pool of threads; several requests in flight get a caller's thread each instead."""
        return OnnxRuntimeSession(artefact, batch_size, threads, in_flight)


class OnnxRuntimeSession(SessionContext):
    """One InferenceSession; inputs are bound to the caller's arrays, outputs to arrays of the session's own."""

    timeline = "host"

    def __init__(self, artefact: Artefact, batch_size: int, threads: int, in_flight: int) -> None:
        import onnxruntime

        self.slots = in_flight
        self.input_spec, self.output_spec = tensor_specs(artefact, batch_size)
        # The slots' callers compute too, and share the pool's further threads.
        self._pool = max(1, threads - in_flight + 1)
        self._evidence: Evidence | None = None
        self._ran = False
        self._ort = onnxruntime
        self._path = str(artefact.path)
        self._open()

    def _open(self) -> None:
        """Open the file with the profiler on."""
        self._profiles = tempfile.TemporaryDirectory(prefix="vggbench-profile-")
        settings = _session_options(self._pool, Path(self._profiles.name))
        self._session = self._ort.InferenceSession(self._path, settings, providers=[_PROVIDER])
        self._names = [output.name for output in self._session.get_outputs()]
        self._bindings = [self._session.io_binding() for _ in range(self.slots)]
        self._staged: list[NDArray[np.float32] | None] = [None] * self.slots
        for binding in self._bindings:
            for output in self._names:
                binding.bind_output(output, "cpu")

    def stage(self, slot: int, batch: NDArray[np.float32]) -> None:
        """Bind the array itself: the CPU provider reads it in place."""
        self._staged[slot] = batch  # a binding keeps no reference to it
        self._bindings[slot].bind_cpu_input(self.input_spec.name, batch)

    def enqueue(self, slot: int) -> None:
        """Run the request to its end."""
        self._session.run_with_iobinding(self._bindings[slot])
        self._ran = True

    def wait(self, slot: int) -> None:
        """Return at once: the request is over."""

    def fetch(self, slot: int) -> NDArray[np.float32]:
        """Return the logits as a copy."""
        values = self._bindings[slot].copy_outputs_to_cpu()
        return np.array(values[self._names.index(self.output_spec.name)], dtype=np.float32)

    def evidence(self) -> Evidence:
        """Read the profile of the requests made so far; it is written once, so later calls return the same."""
        if self._evidence is None:
            if not self._ran:
                self.stage(0, np.zeros(self.input_spec.shape, dtype=np.float32))
                self.enqueue(0)
            threads = self._pool - 1 + self.slots
            self._evidence = _read_evidence(self._end_profiling(), self._session, threads, self._ort.__version__)
        return self._evidence

    def start_profiling(self) -> None:
        """Open the file again: a profiler that was ended does not start again."""
        self.close()
        self._open()

    def layer_times(self, run: Callable[[], None], requests: int) -> tuple[LayerTime, ...]:
        """Make the requests and read every node's kernel time from the profile, which ends here."""
        for _ in range(requests):
            run()
        return _layer_times(self._end_profiling(), requests)

    def _end_profiling(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = json.loads(Path(self._session.end_profiling()).read_text())
        self._profiles.cleanup()
        return events

    def close(self) -> None:
        """Drop the session and its profile."""
        self._bindings = []
        self._session = None
        self._profiles.cleanup()


def _session_options(threads: int, profile_folder: Path) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _LOG_ERRORS
    settings.enable_profiling = True
    settings.profile_file_prefix = str(profile_folder / "profile")
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return settings


def _read_evidence(events: list[dict[str, Any]], session: Any, threads: int, version: str) -> Evidence:
    nodes = list(_node_events(events))
    layers = tuple(_layer_evidence(event) for event in nodes if event["args"]["op_name"] in _MAC_OPERATIONS)
    placements = Counter(
        assignment.ep_name
        for assignment in session.get_provider_graph_assignment_info()
        for _ in assignment.get_nodes()
    )
    batches = {_shape(event["args"]["output_type_shape"][0])[0] for event in nodes if _is_product(event)}
    return Evidence(
        device="cpu" if set(placements) == {_PROVIDER} else "+".join(sorted(placements)),
        threads=threads,
        batch_size=batches.pop() if len(batches) == 1 else 0,
        layers=layers,
        placements=dict(placements),
        flags={"providers": ",".join(session.get_providers()), "version": version},
    )


def _kernel_events(events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what the profile says of kernels, in the order in which they ran."""
    return (event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"))


def _node_events(events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the kernel events of the last request recorded, one a node."""
    last = {event["args"]["node_index"]: event for event in _kernel_events(events)}
    return iter(last.values())


def _layer_times(events: list[dict[str, Any]], requests: int) -> tuple[LayerTime, ...]:
    """Return every node's times in the newest requests; the profiler counts microseconds."""
    by_node: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in _kernel_events(events):
        by_node[event["args"]["node_index"]].append(event)
    return tuple(
        LayerTime(
            name=_REWRITTEN.sub("", found[-1]["name"]),
            operation=found[-1]["args"]["op_name"],
            macs=_macs(found[-1]["args"]) if _is_product(found[-1]) else 0,
            weights=_weights(found[-1]["args"]) if _is_product(found[-1]) else 0,
            samples_ns=tuple(event["dur"] * 1000 for event in found[-requests:]),
        )
        for found in by_node.values()
    )


def _is_product(event: dict[str, Any]) -> bool:
    return event["args"]["op_name"] in _MAC_OPERATIONS


def _shape(tensor: dict[str, list[int]]) -> list[int]:
    return next(iter(tensor.values()))


def _layer_evidence(event: dict[str, Any]) -> LayerEvidence:
    arguments = event["args"]
    inputs, outputs = arguments["input_type_shape"], arguments["output_type_shape"]
    types = {_PRECISION_NAMES.get(next(iter(tensor)), next(iter(tensor))) for tensor in (*inputs, *outputs)}
    return LayerEvidence(
        name=event["name"].removesuffix("_kernel_time"),
        operation=arguments["op_name"],
        precision=types.pop() if len(types) == 1 else "+".join(sorted(types)),
        placement=arguments["provider"],
        macs=_macs(arguments),
    )


def _macs(arguments: dict[str, Any]) -> int:
    """Return a product's multiply-accumulates from the shapes in its event."""
    inputs = arguments["input_type_shape"]
    per_output = math.prod(_shape(inputs[1])[1:]) if "Conv" in arguments["op_name"] else _shape(inputs[0])[-1]
    return math.prod(_shape(arguments["output_type_shape"][0])) * per_output


def _weights(arguments: dict[str, Any]) -> int:
    """Return the elements that a product multiplies its data with; an event may leave out those of a matrix."""
    inputs = arguments["input_type_shape"]
    if "Conv" in arguments["op_name"]:
        return math.prod(_shape(inputs[1]))
    return _shape(inputs[0])[-1] * _shape(arguments["output_type_shape"][0])[-1]


BACKEND = OnnxRuntimeBackend()
