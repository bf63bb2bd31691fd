"""ONNX Runtime with its TensorRT provider, which builds an engine of the ONNX artefact when a session opens.

The provider is linked with TensorRT 10. Its engine is built in every process, and in every slot of one.
"""

from __future__ import annotations

from collections.abc import Mapping

from vggbench.artefacts.artefact import Artefact
from vggbench.backends.base import Available, FileForm, Options, Support, Unavailable
from vggbench.backends.onnxruntime_cuda import (
    TENSORRT,
    TENSORRT_OPTIONS,
    CudaOnnxRuntimeSession,
    Provider,
    cuda_supports,
    cuda_unavailable,
)


class OnnxRuntimeTensorrtBackend:
    """ONNX Runtime's TensorRT provider."""

    name = "onnxruntime-tensorrt"
    artefact_kind = "onnx"
    devices = ("cuda",)
    option_values: Mapping[str, tuple[str, ...]] = TENSORRT_OPTIONS
    cuda_options: Mapping[str, tuple[str, ...]] = TENSORRT_OPTIONS

    def availability(self, device: str) -> Available | Unavailable:
        """Import onnxruntime and say its version, or why the provider cannot compute on the device."""
        if device == "cpu":
            return Unavailable("TensorRT does not run on a cpu", "use --device cuda on a machine with an NVIDIA GPU")
        missing = cuda_unavailable(device, TENSORRT)
        if missing is not None:
            return missing
        import onnxruntime

        return Available(str(onnxruntime.__version__))

    def supports(self, precision: str, device: str) -> Support:
        """Say yes to what the file's types say, where the GPU has arithmetic for it."""
        return cuda_supports(precision, device, TENSORRT)

    def file_form(self, precision: str, options: Options) -> FileForm:  # noqa: ARG002 - no option changes the file
        """Go by the file's types, fp32 for tf32."""
        return FileForm("fp32" if precision == "tf32" else precision)

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
    ) -> CudaOnnxRuntimeSession:
        """Open the file, and build its engine; raises what ONNX Runtime raises."""
        provider = Provider(TENSORRT, precision, options)
        return CudaOnnxRuntimeSession(artefact, device, batch_size, threads, in_flight, provider)


BACKEND = OnnxRuntimeTensorrtBackend()
