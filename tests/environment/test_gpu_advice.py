"""Which line is said of which machine, and what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vggbench.environment.gpu_advice import Finding, advise, row_for
from vggbench.environment.gpu_software import GpuSoftware, TensorRt
from vggbench.environment.nvidia import Gpu, NvidiaFacts

H200 = Gpu(index=0, name="NVIDIA H200", uuid=None, compute_capability=(9, 0), memory_bytes=141 << 30, mig=False)
NEW = NvidiaFacts(driver="580.65.06", cuda=(13, 0), gpus=(H200,), source="NVML")
OLD = NvidiaFacts(driver="550.54.15", cuda=(12, 4), gpus=(H200,), source="NVML")
TRT10 = TensorRt(
    name="tensorrt", version="10.16.1.11", distribution="tensorrt-cu13", libraries={10: "/x/libnvinfer.so.10"}
)
TRT11 = TensorRt(
    name="tensorrt", version="11.4.0.106", distribution="tensorrt-cu13", libraries={11: "/x/libnvinfer.so.11"}
)
RTX = TensorRt(
    name="tensorrt-rtx",
    version="1.7.1.116",
    distribution="tensorrt-rtx-cu13",
    libraries={1: "/x/libtensorrt_rtx.so.1"},
)
FITTING = GpuSoftware(
    torch="2.14.1",
    torch_cuda=(13, 0),
    onnxruntime="1.31.1",
    onnxruntime_cuda=(13, 0),
    wanted_nvinfer=10,
    tensorrt=(TRT10, RTX),
)


def found(facts: NvidiaFacts, software: GpuSoftware = FITTING) -> dict[str, Finding]:
    return {finding.subject: finding for finding in advise(facts, software)}


def with_gpu(**changes: Any) -> NvidiaFacts:
    return replace(NEW, gpus=(replace(H200, **changes),))


def test_where_everything_fits_nothing_need_be_done() -> None:
    findings = found(NEW)
    assert [finding.remedy for finding in findings.values()] == [""] * len(findings)
    assert findings["NVIDIA driver"].text == "580.65.06, supports CUDA 13.0, told by NVML"
    assert findings["GPU 0"].text == "NVIDIA H200, compute capability 9.0, 141 GiB"
    assert findings["goes together"].text.endswith("versions in constraints/cuda13.txt")
    assert findings["TensorRT provider"].text == "loads libnvinfer.so.10: /x/libnvinfer.so.10"
    assert findings["tensorrt-rtx"].text == "tensorrt-rtx-cu13 1.7.1.116, /x/libtensorrt_rtx.so.1"


def test_without_a_driver_there_is_one_line_and_nothing_to_do() -> None:
    assert advise(NvidiaFacts(), FITTING) == [Finding("NVIDIA driver", "none: backends run on the CPU")]


@pytest.mark.parametrize(
    ("facts", "text", "remedy"),
    [
        (OLD, "supports CUDA 12.4", "update it to 580.65.06 or newer for CUDA 13"),
        (replace(OLD, driver="470.1", cuda=(11, 4)), "supports CUDA 11.4", "too old for every row of the table"),
        (replace(OLD, driver="470.1", cuda=None), "supports no CUDA that is in use here", "update it to 525.60.13"),
        (replace(OLD, cuda=None), "supports CUDA 12 by its number", "update it to 580"),
        (replace(NEW, trouble="NVML does not answer: mismatch"), "NVML does not answer: mismatch", "--gpus all"),
        (NvidiaFacts(cuda=(13, 0), source="libcuda"), "of unknown version, supports CUDA 13.0, told by libcuda", ""),
    ],
)
def test_drivers(facts: NvidiaFacts, text: str, remedy: str) -> None:
    finding = found(facts)["NVIDIA driver"]
    assert text in finding.text
    assert remedy in finding.remedy if remedy else not finding.remedy


def test_an_ancient_driver_has_no_row() -> None:
    facts = replace(OLD, driver="470.1", cuda=(11, 4))
    assert row_for(facts) is None
    assert set(found(facts)) == {"NVIDIA driver", "GPU 0"}


@pytest.mark.parametrize(
    ("facts", "text", "remedy"),
    [
        (with_gpu(name="Tesla V100", compute_capability=(7, 0)), "7.0", "too old for CUDA 13, which starts at 7.5"),
        (with_gpu(compute_capability=(13, 0)), "13.0", "newer than the 12.1"),
        (with_gpu(compute_capability=None, memory_bytes=None), "NVIDIA H200", ""),
        (with_gpu(mig=True), "cut into MIG instances", ""),
    ],
)
def test_gpus(facts: NvidiaFacts, text: str, remedy: str) -> None:
    finding = found(facts)["GPU 0"]
    assert text in finding.text
    assert remedy in finding.remedy if remedy else not finding.remedy


@pytest.mark.parametrize(
    ("facts", "changes", "subject", "text", "remedy"),
    [
        (NEW, {"torch": None}, "torch", "not installed", "-c constraints/cuda13.txt"),
        (NEW, {"torch_cuda": None}, "torch", "built without CUDA", "the package index's own build"),
        (OLD, {}, "torch", "the driver supports 12", "update the driver, or install the build for CUDA 12.6"),
        (NEW, {"onnxruntime": None}, "onnxruntime-gpu", "not installed", "'onnxruntime-gpu>=1.27,<1.32'"),
        (NEW, {"onnxruntime_cuda": None}, "onnxruntime-gpu", "has no CUDA", "onnxruntime-gpu>=1.27"),
        (OLD, {}, "onnxruntime-gpu", "the driver supports 12", "'onnxruntime-gpu>=1.24,<1.27'"),
        (NEW, {"onnxruntime_cuda": (12, 8)}, "onnxruntime-gpu", "torch brings the libraries of CUDA 13", ">=1.27"),
        (NEW, {"wanted_nvinfer": None}, "TensorRT provider", "onnxruntime has none", ""),
        (NEW, {"tensorrt": (TRT11,)}, "TensorRT provider", "not found, only of version 11", "'tensorrt-cu13<11'"),
        (OLD, {"tensorrt": ()}, "TensorRT provider", "wants libnvinfer.so.10", "'tensorrt-cu12<11'"),
        (NEW, {"tensorrt": (TRT11,)}, "tensorrt", "tensorrt-cu13 11.4.0.106, /x/libnvinfer.so.11", ""),
        (NEW, {"tensorrt": ()}, "tensorrt", "no Python bindings", "pip install tensorrt-cu13"),
        (NEW, {"tensorrt": ()}, "tensorrt-rtx", "no Python bindings", "pip install tensorrt-rtx-cu13"),
        (OLD, {}, "tensorrt-rtx", "the driver supports CUDA 12", "pip install tensorrt-rtx-cu12"),
        (
            NEW,
            {"tensorrt": (replace(TRT10, libraries={}),)},
            "tensorrt",
            "its libraries are missing",
            "pip install --force-reinstall tensorrt-cu13==10.16.1.11",
        ),
        (
            NEW,
            {"tensorrt": (replace(TRT10, version=None, distribution=""),)},
            "tensorrt",
            "no Python bindings, /x/libnvinfer.so.10",
            "pip install tensorrt-cu13",
        ),
    ],
)
def test_libraries(facts: NvidiaFacts, changes: dict[str, Any], subject: str, text: str, remedy: str) -> None:
    finding = found(facts, replace(FITTING, **changes))[subject]
    assert text in finding.text
    assert remedy in finding.remedy if remedy else not finding.remedy
