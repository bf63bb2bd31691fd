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
from vggbench.artefacts.quantization import LAYOUTS
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
    quantizer_layout,
    tensor_specs,
)
from vggbench.environment.cpu import has_arithmetic
from vggbench.models.layers import Layer, mac_layers
from vggbench.models.network_file import NetworkFile, network_from_json

_PROVIDER = "CPUExecutionProvider"
_LOG_ERRORS = 3  # ONNX Runtime's severity scale: 3 is error
_MAC_OPERATIONS = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
# What the optimiser makes of products between quantisers. Their weights are packed, and no event has their shape.
_EIGHT_BIT_OPERATIONS = {"QLinearConv", "QGemm", "QLinearMatMul"}
# What the optimiser adds to a node's name when it fuses nodes, or lays out a convolution by blocks of channels.
_REWRITTEN = re.compile(r"^fused |(_nchwc)?(_token_\d+)?_kernel_time$")
_NOT_NATIVE = {
    "fp16": "widens fp16 to fp32",
    "bf16": "has no bf16 convolution",
    "tf32": "has no tf32: it is a mode of NVIDIA's GPUs",
    "int8": "has no instructions of this CPU to multiply 8-bit numbers with (VNNI, AMX, or Arm's dot products)",
    "fp8": "emulates fp8: it computes in fp32 between roundings to fp8",
}
_PRECISION_NAMES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8"}


class OnnxRuntimeBackend:
    """ONNX Runtime's CPU provider."""

    name = "onnxruntime"
    artefact_kind = "onnx"
    option_values: Mapping[str, tuple[str, ...]] = {"layout": ("", *LAYOUTS)}

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
        """Say yes to fp32, and to int8 where the CPU has instructions for it."""
        if precision == "fp32" or (precision == "int8" and has_arithmetic("int8")):
            return Support(True)
        return Support(False, f"ONNX Runtime's CPU provider {_NOT_NATIVE.get(precision, f'has no native {precision}')}")

    def file_form(self, precision: str, options: Options) -> FileForm:
        """Go by the file's types; quantisers stand as this provider fuses them, or as asked for."""
        return FileForm(precision, quantizer_layout(precision, options))

    def open(
        self,
        artefact: Artefact,
        *,
        device: str,  # noqa: ARG002 - availability refused all but the CPU
        precision: str,  # noqa: ARG002 - the file's types decide, and evidence reads them back
        batch_size: int,
        threads: int,
        in_flight: int,
        options: Options,  # noqa: ARG002 - they chose the file
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
        self._layers = _layers(artefact)
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
            self._evidence = self._read_evidence(self._end_profiling(), threads)
        return self._evidence

    def _read_evidence(self, events: list[dict[str, Any]], threads: int) -> Evidence:
        nodes = list(_node_events(events))
        placements = Counter(
            assignment.ep_name
            for assignment in self._session.get_provider_graph_assignment_info()
            for _ in assignment.get_nodes()
        )
        batches = {_shape(event["args"]["output_type_shape"][0])[0] for event in nodes if _is_product(event)}
        return Evidence(
            device="cpu" if set(placements) == {_PROVIDER} else "+".join(sorted(placements)),
            threads=threads,
            batch_size=batches.pop() if len(batches) == 1 else 0,
            layers=tuple(_layer_evidence(event, self._layers) for event in nodes if _is_product(event)),
            placements=dict(placements),
            flags={"providers": ",".join(self._session.get_providers()), "version": self._ort.__version__},
        )

    def start_profiling(self) -> None:
        """Open the file again: a profiler that was ended does not start again."""
        self.close()
        self._open()

    def layer_times(self, run: Callable[[], None], requests: int) -> tuple[LayerTime, ...]:
        """Make the requests and read every node's kernel time from the profile, which ends here."""
        for _ in range(requests):
            run()
        return _layer_times(self._end_profiling(), requests, self._layers)

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


def _kernel_events(events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what the profile says of kernels, in the order in which they ran."""
    return (event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"))


def _node_events(events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the kernel events of the last request recorded, one a node."""
    last = {event["args"]["node_index"]: event for event in _kernel_events(events)}
    return iter(last.values())


def _layer_times(events: list[dict[str, Any]], requests: int, layers: Mapping[str, Layer]) -> tuple[LayerTime, ...]:
    """Return every node's times in the newest requests; the profiler counts microseconds."""
    by_node: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in _kernel_events(events):
        by_node[event["args"]["node_index"]].append(event)
    return tuple(
        LayerTime(
            name=_name(found[-1]),
            operation=found[-1]["args"]["op_name"],
            macs=_macs(found[-1], layers) if _is_product(found[-1]) else 0,
            weights=_weights(found[-1], layers) if _is_product(found[-1]) else 0,
            samples_ns=tuple(event["dur"] * 1000 for event in found[-requests:]),
        )
        for found in by_node.values()
    )


def _layers(artefact: Artefact) -> dict[str, Layer]:
    """Return the layers of a network of ours by name: nodes are named after them."""
    network = network_from_json(artefact.spec)
    return {} if isinstance(network, NetworkFile) else {layer.name: layer for layer in mac_layers(network)}


def _name(event: dict[str, Any]) -> str:
    """Return the node's name in the file."""
    return _REWRITTEN.sub("", event["name"])


def _is_product(event: dict[str, Any]) -> bool:
    return event["args"]["op_name"] in _MAC_OPERATIONS | _EIGHT_BIT_OPERATIONS


def _is_eight_bit(event: dict[str, Any]) -> bool:
    return event["args"]["op_name"] in _EIGHT_BIT_OPERATIONS


def _shape(tensor: dict[str, list[int]]) -> list[int]:
    return next(iter(tensor.values()))


def _layer_evidence(event: dict[str, Any], layers: Mapping[str, Layer]) -> LayerEvidence:
    arguments = event["args"]
    inputs, outputs = arguments["input_type_shape"], arguments["output_type_shape"]
    if _is_eight_bit(event):  # scales are fp32, biases int32, and the last layer's output is fp32
        inputs, outputs = inputs[:1], ()
    types = {_PRECISION_NAMES.get(next(iter(tensor)), next(iter(tensor))) for tensor in (*inputs, *outputs)}
    return LayerEvidence(
        name=event["name"].removesuffix("_kernel_time"),
        operation=arguments["op_name"],
        precision=types.pop() if len(types) == 1 else "+".join(sorted(types)),
        placement=arguments["provider"],
        macs=_macs(event, layers),
    )


def _macs(event: dict[str, Any], layers: Mapping[str, Layer]) -> int:
    """Return a product's multiply-accumulates from the shapes in its event, as far as it has them.

    How many products an 8-bit operation sums is known of a network of ours alone; of others nothing is claimed.
    """
    arguments = event["args"]
    inputs = arguments["input_type_shape"]
    if _is_eight_bit(event):
        per_output = layers[_name(event)].reduction_length if _name(event) in layers else 0
    else:
        per_output = math.prod(_shape(inputs[1])[1:]) if "Conv" in arguments["op_name"] else _shape(inputs[0])[-1]
    return math.prod(_shape(arguments["output_type_shape"][0])) * per_output


def _weights(event: dict[str, Any], layers: Mapping[str, Layer]) -> int:
    """Return the elements that a product multiplies its data with; an event may leave out those of a matrix."""
    arguments = event["args"]
    inputs = arguments["input_type_shape"]
    if _is_eight_bit(event):
        layer = layers.get(_name(event))
        return layer.reduction_length * layer.output_shape[1] if layer else 0
    if "Conv" in arguments["op_name"]:
        return math.prod(_shape(inputs[1]))
    return _shape(inputs[0])[-1] * _shape(arguments["output_type_shape"][0])[-1]


BACKEND = OnnxRuntimeBackend()
