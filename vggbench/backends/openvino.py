"""OpenVINO on the CPU: opens an ONNX artefact.

Its default precision on a CPU with bf16 instructions is bf16, also for an fp32 file: the hint is always given, and
what each layer ran in is read back from the compiled model. bf16 and fp16 are hints for the fp32 file, as OpenVINO is
used. With the option `bf16=typed` a file of bf16 is opened with the hint for fp32, so that its own types decide: seen
to be heeded, layer by layer. Those of an fp16 file are not: without the hint all of it is widened to fp32, with it no
layer is left in fp32.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
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

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_BY_TYPES = "f32"  # leaves a file's own types as they are; what is not between its quantisers is fp32
_NOT_NATIVE = {
    "int8": "this CPU has no instructions to multiply 8-bit numbers with (VNNI, AMX, or Arm's dot products)",
    "fp8": "OpenVINO on a CPU emulates fp8: it computes in fp32 or bf16 between roundings to fp8",
    "tf32": "OpenVINO on a CPU has no tf32: it is a mode of NVIDIA's GPUs",
}
_PRECISION_NAMES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "i8": "int8", "u8": "int8", "I8": "int8"}
# What a product is called before its bias, or the scales of its 8-bit operands, are fused into it.
_FUSED = re.compile(r"(/WithoutBiases)?(/DequantizationMultiply)?$")
_MAC_LAYERS = {"Convolution", "FullyConnected", "MatMul"}


class OpenVinoBackend:
    """OpenVINO's CPU plugin."""

    name = "openvino"
    artefact_kind = "onnx"
    option_values: Mapping[str, tuple[str, ...]] = {"bf16": ("", "typed"), "layout": ("", *LAYOUTS)}

    def availability(self, device: str) -> Available | Unavailable:
        """Import openvino and say its version."""
        if device != "cpu":
            return Unavailable(f"openvino is measured on the CPU only, not on {device}", "use --device cpu")
        try:
            import openvino
        except (ImportError, OSError) as error:
            return Unavailable(f"openvino cannot be imported: {error}", "pip install openvino")
        return Available(str(openvino.__version__).split("-")[0])

    def supports(self, precision: str, device: str) -> Support:  # noqa: ARG002 - the CPU is the only device
        """Ask the plugin, which lists short types among its capabilities, and the CPU's own flags."""
        import openvino

        if precision == "fp32" or (precision == "int8" and has_arithmetic("int8")):
            return Support(True)
        if precision in ("fp16", "bf16"):
            listed = precision.upper() in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            if listed and has_arithmetic(precision):
                return Support(True)
            return Support(
                False, f"OpenVINO runs {precision} as another type on this CPU, which has no arithmetic for it"
            )
        return Support(False, _NOT_NATIVE.get(precision, f"OpenVINO on a CPU has no native {precision}"))

    def file_form(self, precision: str, options: Options) -> FileForm:
        """Take the fp32 file, which a hint is for; a file of the precision's own types where no hint can say it."""
        typed = precision in ("int8", "fp8") or (precision == "bf16" and options.get("bf16") == "typed")
        return FileForm(precision if typed else "fp32", quantizer_layout(precision, options))

    def open(
        self,
        artefact: Artefact,
        *,
        device: str,  # noqa: ARG002 - availability refused all but the CPU
        precision: str,
        batch_size: int,
        threads: int,
        in_flight: int,
        options: Options,
    ) -> OpenVinoSession:
        """Compile for a static batch: one stream for latency, a stream per slot for throughput."""
        typed = self.file_form(precision, options).precision != "fp32"
        hint = _BY_TYPES if typed else _HINTS[precision]
        return OpenVinoSession(artefact, hint, batch_size, threads, in_flight)


class OpenVinoSession(SessionContext):
    """One compiled model, one infer request per slot; inputs share the caller's arrays."""

    timeline = "host"

    def __init__(self, artefact: Artefact, hint: str, batch_size: int, threads: int, in_flight: int) -> None:
        import openvino

        self.slots = in_flight
        self.input_spec, self.output_spec = tensor_specs(artefact, batch_size)
        self._ov = openvino
        self._path = artefact.path
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY" if in_flight == 1 else "THROUGHPUT",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": in_flight,
            "ENABLE_CPU_PINNING": True,  # within the CPUs that the process is kept to
        }
        self._compile()

    def _compile(self, **further: Any) -> None:
        core = self._ov.Core()
        model = core.read_model(self._path)
        model.reshape({self.input_spec.name: list(self.input_spec.shape)})
        self._compiled = core.compile_model(model, "CPU", {**self._settings, **further})
        self._requests = [self._compiled.create_infer_request() for _ in range(self.slots)]
        self._staged: list[NDArray[np.float32] | None] = [None] * self.slots
        self._runs = 0

    def stage(self, slot: int, batch: NDArray[np.float32]) -> None:
        """Point the request at the array itself."""
        self._staged[slot] = batch  # OpenVINO keeps no reference to it
        self._requests[slot].set_tensor(self.input_spec.name, self._ov.Tensor(batch, shared_memory=True))

    def enqueue(self, slot: int) -> None:
        """Start the request."""
        self._runs += 1
        self._requests[slot].start_async()

    def wait(self, slot: int) -> None:
        """Wait for the request."""
        self._requests[slot].wait()

    def fetch(self, slot: int) -> NDArray[np.float32]:
        """Return the logits as a copy."""
        return np.array(self._requests[slot].get_tensor(self.output_spec.name).data, dtype=np.float32)

    def evidence(self) -> Evidence:
        """Read layers, shapes and precisions from the compiled model's runtime graph."""
        nodes = self._nodes()
        layers = tuple(node.layer_evidence() for node in nodes if node.kind in _MAC_LAYERS)
        devices = ",".join(self._compiled.get_property("EXECUTION_DEVICES"))
        batches = {node.output_shape[0] for node in nodes if node.kind in _MAC_LAYERS}
        return Evidence(
            device=devices.lower(),
            threads=int(self._compiled.get_property("INFERENCE_NUM_THREADS")),
            batch_size=batches.pop() if len(batches) == 1 else 0,
            layers=layers,
            placements=dict(Counter(devices for node in nodes if node.kind not in {"Const", "Input", "Output"})),
            flags={
                "precision_hint": str(self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()),
                "cpu_pinning": str(self._compiled.get_property("ENABLE_CPU_PINNING")),
                "streams": str(self._compiled.get_property("NUM_STREAMS")),
                "version": str(self._ov.__version__),
            },
        )

    def _nodes(self) -> list[_Node]:
        return [_Node(operation) for operation in self._compiled.get_runtime_model().get_ordered_ops()]

    def start_profiling(self) -> None:
        """Compile again with performance counters, which are compiled in."""
        self.close()
        self._compile(PERF_COUNT=True)

    def layer_times(self, run: Callable[[], None], requests: int) -> tuple[LayerTime, ...]:
        """Make the requests and read the counters: of every node its mean over all requests since it was compiled.

        They count whole microseconds, so that those of a single request could not be told from two means.
        """
        runs, before = self._runs, self._counters()
        for _ in range(requests):
            run()
        products = {node.name: node for node in self._nodes() if node.kind in _MAC_LAYERS}
        times = []
        for name, node in self._counters().items():
            earlier = before[name].real_time if name in before else timedelta()
            mean = ((runs + requests) * node.real_time - runs * earlier) / requests
            product = products.get(name)
            times.append(
                LayerTime(
                    name=_FUSED.sub("", name),
                    operation=f"{node.node_type}:{node.exec_type}",
                    macs=product.layer_evidence().macs if product else 0,
                    weights=product.weights if product else 0,
                    samples_ns=(max(0, round(mean.total_seconds() * 1e9)),) * requests,
                )
            )
        return tuple(times)

    def _counters(self) -> dict[str, Any]:
        """Return the performance counters of the nodes that have run."""
        return {node.node_name: node for node in self._requests[0].profiling_info if node.status.name == "EXECUTED"}

    def close(self) -> None:
        """Drop the requests and the compiled model."""
        self._requests = []
        self._compiled = None


class _Node:
    """One operation of the runtime graph."""

    def __init__(self, operation: Any) -> None:
        facts = operation.get_rt_info()
        self.name = str(operation.get_friendly_name())
        self.kind = _fact(facts, "layerType")
        self._primitive = _fact(facts, "primitiveType")
        self._precision = _fact(facts, "runtimePrecision")
        self._input_shapes = [tuple(port.get_shape()) for port in operation.inputs()]
        self.output_shape = tuple(operation.output(0).get_shape()) if operation.get_output_size() else ()

    @property
    def weights(self) -> int:
        """Elements of what a product multiplies the data with."""
        return math.prod(self._input_shapes[1])

    def layer_evidence(self) -> LayerEvidence:
        """Trust the kernel's own suffix (`brgconv_avx512_bf16`) before the layer's declared precision."""
        suffix = self._primitive.rsplit("_", 1)[-1]
        data, weights = self._input_shapes[:2]
        grouped = len(weights) > len(self.output_shape)  # (groups, outputs of one, inputs of one, kernel...)
        per_output = math.prod(weights[1 + grouped :]) if self.kind == "Convolution" else data[-1]
        ran = _PRECISION_NAMES.get(suffix) or _PRECISION_NAMES.get(self._precision, self._precision)
        return LayerEvidence(
            name=self.name,
            operation=f"{self.kind}:{self._primitive}",
            precision=ran,
            placement="CPU",
            macs=math.prod(self.output_shape) * per_output,
        )


def _fact(facts: Any, key: str) -> str:
    return str(facts[key].astype(str)) if key in facts else ""


BACKEND = OpenVinoBackend()
