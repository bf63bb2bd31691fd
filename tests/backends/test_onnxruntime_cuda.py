"""ONNX Runtime's sessions for a GPU: on the stand-in with the real library's CPU provider, and its real CUDA provider.

The real CUDA provider is here without a driver. A library with nothing in it stands where the driver's is, for as long
as the provider needs to read the options that it is given.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import cuda_stand_in
from tests.contract.conftest import SPEC, THREADS
from tests.cuda_stand_in import CudaStandIn
from vggbench.artefacts.exported import exported
from vggbench.artefacts.onnx_form import OnnxForm
from vggbench.backends import onnxruntime_cuda as module
from vggbench.backends.base import Unavailable
from vggbench.backends.onnxruntime_cuda import CUDA, TENSORRT, CudaOnnxRuntimeSession, Provider
from vggbench.backends.registry import find_backend
from vggbench.environment.gpus import seen_gpus
from vggbench.parity.inputs import input_images

ort = pytest.importorskip("onnxruntime")
CPU = "CPUExecutionProvider"
no_gpu = pytest.mark.skipif(seen_gpus() is not None, reason="there is a GPU here")
has_cuda_provider = pytest.mark.skipif(CUDA not in ort.get_available_providers(), reason="built without CUDA")


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory):
    return exported(SPEC, tmp_path_factory.mktemp("exports"), OnnxForm())


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> CudaStandIn:
    monkeypatch.setattr(module, "DEVICE_TYPE", "cpu")
    monkeypatch.setattr(module, "forbid_fallback", lambda _settings: None)  # the CPU's provider is the fallback
    return cuda_stand_in.install(monkeypatch)


def opened(artefact, in_flight: int = 1) -> CudaOnnxRuntimeSession:
    return CudaOnnxRuntimeSession(artefact, "cuda", 2, THREADS, in_flight, Provider(CPU, "fp32", {}))


def test_requests_read_and_write_the_slots_tensors(machine: CudaStandIn, artefact, tmp_path: Path):
    images = input_images(SPEC, tmp_path, None)
    plain = ort.InferenceSession(str(artefact.path), providers=[CPU])
    expected = plain.run(["logits"], {"input": images[:4]})[0]
    with opened(artefact, in_flight=2) as session:
        for slot in range(2):
            session.stage(slot, images[2 * slot : 2 * slot + 2])
            session.enqueue(slot)
        for slot in range(2):
            session.wait(slot)
            assert np.allclose(session.fetch(slot), expected[2 * slot : 2 * slot + 2], atol=1e-5)
            assert np.array_equal(session.device_slots.output(slot).numpy(), session.fetch(slot))


def test_evidence_has_every_product_and_where_it_ran(machine: CudaStandIn, artefact):
    with opened(artefact) as session:
        evidence = session.evidence()
        assert session.evidence() is evidence
    assert sum(layer.macs for layer in evidence.layers) > 0
    assert {layer.placement for layer in evidence.layers} == {CPU} == set(evidence.placements)
    assert (evidence.batch_size, evidence.threads) == (2, THREADS)


def test_what_runs_to_its_end_by_itself_is_timed_by_the_host(machine: CudaStandIn, artefact):
    with opened(artefact) as session:
        assert session.timeline == "host"  # nothing has run yet
        assert machine.backlogs_ns == []
        session.enqueue(0)
        session._sessions[0] = Synchronous(machine)
        assert session.timeline == "host"
        assert len(machine.backlogs_ns) == 1
        assert session.timeline == "host"
        assert len(machine.backlogs_ns) == 1  # tried out once


class Synchronous:
    """An InferenceSession that waits for its stream, as the provider does unless it is told otherwise."""

    def __init__(self, machine: CudaStandIn) -> None:
        self._machine = machine

    def run_with_iobinding(self, _binding, _settings) -> None:
        self._machine.streams[0].synchronize()


def test_what_returns_before_the_device_begins_is_timed_by_events(machine: CudaStandIn, artefact):
    with opened(artefact) as session:
        session.enqueue(0)
        assert session.timeline == "cuda"


def test_options_say_stream_device_and_tf32():
    chosen = {"prefer_nhwc": "1"}
    assert Provider(CUDA, "fp32", chosen).options("cuda:2", 77) == {
        "prefer_nhwc": "1",
        "device_id": "2",
        "user_compute_stream": "77",
        "use_tf32": "0",
    }
    assert Provider(CUDA, "tf32", chosen).options("cuda", 77)["use_tf32"] == "1"
    assert "use_tf32" not in Provider(TENSORRT, "fp32", {}).options("cuda", 77)


def test_tensorrt_is_forbidden_tf32_by_what_its_libraries_read_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_LOADED", set())
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    module.forbid_tf32("fp32")
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"
    module.forbid_tf32("fp32")
    with pytest.raises(RuntimeError, match="measure tf32 in its own"):
        module.forbid_tf32("tf32")
    monkeypatch.setattr(module, "_LOADED", set())
    module.forbid_tf32("tf32")
    assert "NVIDIA_TF32_OVERRIDE" not in os.environ


@pytest.mark.parametrize(
    ("backend", "precision", "reason"),
    [
        ("onnxruntime", "bf16", "has no max pooling of bf16"),
        ("onnxruntime", "int8", "computes int8 in fp32 between the quantisers"),
        ("onnxruntime", "fp8", "computes fp8 in fp32 between the quantisers"),
        ("onnxruntime-tensorrt", "int8", "cannot be read back; measure it with the backend tensorrt"),
    ],
)
def test_what_a_provider_emulates_is_refused(backend: str, precision: str, reason: str):
    support = find_backend(backend).supports(precision, "cuda")
    assert not support.supported
    assert support.reason.endswith(reason)


@pytest.mark.parametrize("backend", ["onnxruntime", "onnxruntime-tensorrt"])
def test_fp32_and_fp16_are_native_and_tf32_opens_the_fp32_file(backend: str):
    found = find_backend(backend)
    assert found.supports("fp32", "cuda").supported
    assert found.supports("fp16", "cuda").supported
    assert [found.file_form(name, {}).precision for name in ("fp32", "tf32", "fp16")] == ["fp32", "fp32", "fp16"]


def usable_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "unusable", lambda _device: None)


def test_libraries_of_two_cudas_are_not_put_into_one_process(monkeypatch: pytest.MonkeyPatch):
    usable_gpu(monkeypatch)
    monkeypatch.setattr(ort, "cuda_version", "12.8", raising=False)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    found = find_backend("onnxruntime").availability("cuda")
    assert isinstance(found, Unavailable)
    assert "is built for CUDA 12.8, torch " in found.reason


def test_a_build_without_the_provider_says_so(monkeypatch: pytest.MonkeyPatch):
    usable_gpu(monkeypatch)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU])
    found = find_backend("onnxruntime").availability("cuda")
    assert isinstance(found, Unavailable)
    assert found.reason.endswith(f"is built without its {CUDA}")


def test_tensorrt_10_is_missing(monkeypatch: pytest.MonkeyPatch):
    usable_gpu(monkeypatch)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(ort, "cuda_version", "", raising=False)
    monkeypatch.setattr(module, "_loaded", lambda _path: False)
    found = find_backend("onnxruntime-tensorrt").availability("cuda")
    assert isinstance(found, Unavailable)
    assert "needs libnvinfer.so.10" in found.reason
    assert found.remedy == "pip install 'vggbench[trt10]'"


@no_gpu
@has_cuda_provider
def test_the_real_library_does_not_fall_back_to_the_cpu(artefact):
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    module.forbid_fallback(settings)
    with pytest.raises(Exception, match="fallback to CPU EP has been explicitly disabled"):
        ort.InferenceSession(str(artefact.path), settings, providers=[(CUDA, {})], enable_fallback=0)


TELL = """
import sys
import torch, onnxruntime as ort
ort.preload_dlls()
settings = ort.SessionOptions()
settings.log_severity_level = 4
try:
    providers = [("CUDAExecutionProvider", eval(sys.argv[2]))]
    ort.InferenceSession(sys.argv[1], settings, providers=providers, enable_fallback=0)
except Exception as error:
    print(error)
"""


@pytest.mark.slow
@no_gpu
@has_cuda_provider
@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler makes the empty library")
def test_the_real_provider_knows_every_option_by_its_name(artefact, tmp_path: Path):
    """It reads names and values before it asks for a device."""
    library, source = tmp_path / "libcuda.so.1", tmp_path / "cuda.c"
    source.write_text("int cuTensorMapEncodeTiled() { return 100; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", f"-Wl,-soname,{library.name}", "-o", library, source], check=True)

    def told(options: dict[str, str]) -> str:
        command = [sys.executable, "-c", TELL, str(artefact.path), repr(options)]
        variables = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout

    chosen = {name: (values or ("", "1048576"))[-1] for name, values in module.CUDA_OPTIONS.items()}
    options = Provider(CUDA, "fp32", chosen).options("cuda", 1234)
    del options["device_id"]  # which is looked for at once
    assert "provider option" not in told(options)
    assert 'nknown provider option: "colour"' in told({**options, "colour": "red"})
    assert "cudnn_conv_algo_search" in told({**options, "cudnn_conv_algo_search": "SLOWLY"})
