"""The driver's own library is a fake module here; libcuda is one, too."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.environment.nvidia_library import gpu, nvml, refuse
from tests.environment.recorded import plant
from vggbench.environment import nvidia
from vggbench.environment.compatibility import cuda_of_driver
from vggbench.environment.nvidia import Gpu, NvidiaFacts, read_nvidia

# As the open kernel module of a 570 driver writes it, and one of its GPUs.
VERSION_FILE = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.172.08  Release Build  (dvs-builder@U16)\n"
    "GCC version:  gcc version 13.3.0\n"
)
LOADED = {
    "proc/driver/nvidia/version": VERSION_FILE,
    "proc/driver/nvidia/gpus/0000:17:00.0/information": "Model: \t\t NVIDIA L4\nIRQ:   \t\t 18\n",
}
Install = Callable[[Any], None]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a fake NVML in place, and take libcuda away."""

    def no_libcuda(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(nvidia.ctypes, "CDLL", no_libcuda)
    return lambda module: monkeypatch.setitem(sys.modules, "pynvml", module)


def libcuda(monkeypatch: pytest.MonkeyPatch, version: int, failed: int = 0) -> None:
    def ask(number: Any) -> int:
        number._obj.value = version
        return failed

    monkeypatch.setattr(nvidia.ctypes, "CDLL", lambda _name: SimpleNamespace(cuDriverGetVersion=ask))


def test_nvml_tells_driver_cuda_and_gpus(library: Install, tmp_path: Path) -> None:
    library(nvml([gpu("NVIDIA H200", UUID="GPU-1"), gpu("NVIDIA L4", UUID="GPU-2", MigMode=(1, 1))]))
    h200 = Gpu(index=0, name="NVIDIA H200", uuid="GPU-1", compute_capability=(9, 0), memory_bytes=141 << 30, mig=False)
    facts = read_nvidia(tmp_path)
    assert facts == NvidiaFacts(driver="580.65.06", cuda=(13, 0), gpus=(h200, facts.gpus[1]), source="NVML", trouble="")
    assert (facts.gpus[1].index, facts.gpus[1].name, facts.gpus[1].mig) == (1, "NVIDIA L4", True)
    assert facts.seen
    assert facts.cuda_major == 13


def test_what_a_gpu_does_not_tell_is_none_and_a_lost_one_is_left_out(library: Install, tmp_path: Path) -> None:
    library(nvml([{}, {"Name": "NVIDIA T4"}]))
    (only,) = read_nvidia(tmp_path).gpus
    assert only == Gpu(index=1, name="NVIDIA T4", uuid=None, compute_capability=None, memory_bytes=None, mig=None)


def test_an_old_driver_without_cuda_version_is_judged_by_its_number(library: Install, tmp_path: Path) -> None:
    library(nvml(driver="535.183.01", nvmlSystemGetCudaDriverVersion_v2=refuse("Function Not Found")))
    facts = read_nvidia(tmp_path)
    assert (facts.cuda, facts.cuda_major) == (None, 12)


def test_where_nvml_refuses_the_kernel_tells_the_driver_and_says_why(library: Install, tmp_path: Path) -> None:
    library(nvml(nvmlInit=refuse("Driver/library version mismatch")))
    facts = read_nvidia(plant(tmp_path, LOADED))
    assert (facts.driver, facts.source, facts.cuda, facts.cuda_major) == ("570.172.08", "/proc/driver/nvidia", None, 12)
    assert facts.trouble == "NVML does not answer: Driver/library version mismatch"
    assert [one.name for one in facts.gpus] == ["NVIDIA L4"]
    assert facts.gpus[0].compute_capability is None


def test_without_the_module_the_kernel_is_asked(library: Install, tmp_path: Path) -> None:
    library(None)  # what Python makes of a module that must not be imported
    facts = read_nvidia(plant(tmp_path, LOADED))
    assert facts.driver == "570.172.08"
    assert "nvidia-ml-py" in facts.trouble


def test_libcuda_says_which_cuda_it_supports(library: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library(nvml(nvmlInit=refuse("NVML Shared Library Not Found")))
    libcuda(monkeypatch, 12080)
    assert read_nvidia(plant(tmp_path / "loaded", LOADED)).cuda == (12, 8)
    alone = read_nvidia(tmp_path / "empty")
    assert (alone.driver, alone.cuda, alone.source, alone.cuda_major) == (None, (12, 8), "libcuda", 12)
    assert alone.seen


@pytest.mark.parametrize(("version", "failed"), [(0, 0), (13000, 35)])
def test_a_libcuda_that_does_not_say_is_none(
    library: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: int, failed: int
) -> None:
    library(nvml(nvmlInit=refuse("NVML Shared Library Not Found")))
    libcuda(monkeypatch, version, failed)
    assert read_nvidia(tmp_path) == NvidiaFacts()


def test_a_stub_of_libcuda_is_none(library: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library(nvml(nvmlInit=refuse("NVML Shared Library Not Found")))
    monkeypatch.setattr(nvidia.ctypes, "CDLL", lambda _name: SimpleNamespace())
    assert read_nvidia(tmp_path) == NvidiaFacts()


def test_a_machine_without_a_driver_has_none(library: Install, tmp_path: Path) -> None:
    library(nvml(nvmlInit=refuse("NVML Shared Library Not Found")))
    facts = read_nvidia(tmp_path)
    assert facts == NvidiaFacts()
    assert not facts.seen
    assert facts.cuda_major is None


@pytest.mark.parametrize(
    ("driver", "major"),
    [
        ("580.65.06", 13),
        ("610.43", 13),
        ("579.99", 12),
        ("525.60.13", 12),
        ("524", None),
        ("390.157", None),
        ("", None),
        ("rel", None),
    ],
)
def test_which_cuda_a_driver_runs(driver: str, major: int | None) -> None:
    assert cuda_of_driver(driver) == major
