"""ONNX Runtime: opens an ONNX artefact, with the CPU provider here, with the CUDA provider by `onnxruntime_cuda`.

The session is opened with profiling on; `evidence` reads what the first requests recorded and turns it off, so
the proof comes from the very session that is timed afterwards, and timed requests run without the profiler. Times of
layers come from a session of their own, whose profiler stays on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.quantization import LAYOUTS
from vggbench.backends.base import (
    Available,
    Evidence,
    FileForm,
    LayerTime,
    Options,
    SessionContext,
    Support,
    Unavailable,
    quantizer_layout,
    tensor_specs,
)
from vggbench.backends.onnxruntime_cuda import (
    CUDA,
    CUDA_OPTIONS,
    CudaOnnxRuntimeSession,
    Provider,
    cuda_supports,
    cuda_unavailable,
)
from vggbench.backends.onnxruntime_events import Profiler, layer_times, named_layers, product_evidence, session_options
from vggbench.environment.cpu import has_arithmetic

_PROVIDER = "CPUExecutionProvider"
_NOT_NATIVE = {
    "fp16": "widens fp16 to fp32",
    "bf16": "has no bf16 convolution",
    "tf32": "has no tf32: it is a mode of NVIDIA's GPUs",
    "int8": "has no instructions of this CPU to multiply 8-bit numbers with (VNNI, AMX, or Arm's dot products)",
    "fp8": "emulates fp8: it computes in fp32 between roundings to fp8",
}


class OnnxRuntimeBackend:
    """ONNX Runtime's own provider of each device: the CPU's, and CUDA's."""

    name = "onnxruntime"
    artefact_kind = "onnx"
    devices = ("cpu", "cuda")
    option_values: Mapping[str, tuple[str, ...]] = {"layout": ("", *LAYOUTS), **CUDA_OPTIONS}
    cuda_options: Mapping[str, tuple[str, ...]] = CUDA_OPTIONS

    def availability(self, device: str) -> Available | Unavailable:
        """Import onnxruntime and say its version, or why it cannot compute on the device."""
        missing = cuda_unavailable(device, CUDA) if device != "cpu" else None
        if missing is not None:
            return missing
        try:
            import onnxruntime
        except (ImportError, OSError) as error:
            return Unavailable(f"onnxruntime cannot be imported: {error}", "pip install onnxruntime-gpu")
        return Available(str(onnxruntime.__version__))

    def supports(self, precision: str, device: str) -> Support:
        """Say what the device's provider computes natively; the CPU's does int8 where there are instructions for it."""
        if device != "cpu":
            return cuda_supports(precision, device, CUDA)
        if precision == "fp32" or (precision == "int8" and has_arithmetic("int8")):
            return Support(True)
        return Support(False, f"ONNX Runtime's CPU provider {_NOT_NATIVE.get(precision, f'has no native {precision}')}")

    def file_form(self, precision: str, options: Options) -> FileForm:
        """Go by the file's types, fp32 for tf32; quantisers stand as this provider fuses them, or as asked for."""
        return FileForm("fp32" if precision == "tf32" else precision, quantizer_layout(precision, options))

    def open(
        self,
        artefact: Artefact,
        *,
        device: str,
        precision: str,
        batch_size: int,
        threads: int,
        in_flight: int,
        options: Options,
    ) -> OnnxRuntimeSession | CudaOnnxRuntimeSession:
        """Open the file; on a CPU several requests in flight get a caller's thread each of one pool of threads."""
        if device == "cpu":
            return OnnxRuntimeSession(artefact, batch_size, threads, in_flight)
        chosen = {name: value for name, value in options.items() if name in CUDA_OPTIONS}
        provider = Provider(CUDA, precision, chosen)
        return CudaOnnxRuntimeSession(artefact, device, batch_size, threads, in_flight, provider)


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
        self._artefact = artefact
        self._open()

    def _open(self) -> None:
        """Open the file with the profiler on."""
        self._profiler = Profiler()
        settings = session_options(self._pool, self._profiler)
        self._session = self._ort.InferenceSession(str(self._artefact.path), settings, providers=[_PROVIDER])
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
            self._evidence = self._read_evidence()
        return self._evidence

    def _read_evidence(self) -> Evidence:
        layers, batch_size = product_evidence(self._profiler.end(self._session), self._artefact)
        placements = Counter(
            assignment.ep_name
            for assignment in self._session.get_provider_graph_assignment_info()
            for _ in assignment.get_nodes()
        )
        return Evidence(
            device="cpu" if set(placements) == {_PROVIDER} else "+".join(sorted(placements)),
            threads=self._pool - 1 + self.slots,
            batch_size=batch_size,
            layers=layers,
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
        return layer_times(self._profiler.end(self._session), requests, named_layers(self._artefact))

    def close(self) -> None:
        """Drop the session and its profile."""
        self._bindings = []
        self._session = None
        self._profiler.close()


BACKEND = OnnxRuntimeBackend()
