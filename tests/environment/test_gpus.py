"""NVML is a fake module here, and the kernel's files are planted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.environment.recorded import plant
from vggbench.environment import gpus
from vggbench.environment.gpus import (
    SeenGpus,
    are_hidden,
    canonical_device,
    gpu_index,
    gpu_name,
    seen_gpus,
)


class NvmlError(Exception):
    """What every NVML call raises."""


def refuse(*_arguments: Any) -> Any:
    raise NvmlError("not supported")


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch):
    def install(*names: str, **changes: Any) -> None:
        module = ModuleType("pynvml")
        module.__dict__.update(
            NVMLError=NvmlError,
            nvmlInit=lambda: None,
            nvmlDeviceGetCount=lambda: len(names),
            nvmlDeviceGetHandleByIndex=lambda index: index if index < len(names) else refuse(),
            nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
            nvmlDeviceGetName=lambda handle: names[handle] if isinstance(handle, int) else f"the {handle}",
            nvmlSystemGetDriverVersion=lambda: "580.65.06",
        )
        module.__dict__.update(changes)
        monkeypatch.setitem(sys.modules, "pynvml", module)

    gpus._handle.cache_clear()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(subprocess, "run", lambda *_a, **_k: SimpleNamespace(returncode=9, stdout=""))
    yield install
    gpus._handle.cache_clear()


def test_nvml_tells(nvml, tmp_path: Path):
    nvml("NVIDIA H100", "NVIDIA L4")
    assert seen_gpus(tmp_path) == SeenGpus(("NVIDIA H100", "NVIDIA L4"), "580.65.06")
    assert seen_gpus(tmp_path).text == "NVIDIA H100 and NVIDIA L4, driver 580.65.06"
    assert [gpu_name(device) for device in ("cuda", "cuda:1", "cuda:2", "cpu")] == ["NVIDIA H100", "NVIDIA L4", "", ""]


def test_a_part_of_a_gpu_is_called_by_its_own_name(nvml, monkeypatch: pytest.MonkeyPatch):
    nvml("NVIDIA H100")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-12")
    assert (gpu_name("cuda"), gpu_name("cuda:1")) == ("the MIG-12", "")


def test_the_kernel_tells_where_nvml_does_not_answer(nvml, tmp_path: Path):
    nvml(nvmlInit=refuse)
    plant(
        tmp_path,
        {
            "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA H200\n",
            "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.82.01  Wed\n",
        },
    )
    assert seen_gpus(tmp_path) == SeenGpus(("NVIDIA H200",), "470.82.01")


def test_a_device_that_nobody_names_is_seen_all_the_same(nvml, tmp_path: Path):
    nvml(nvmlInit=refuse)
    plant(tmp_path, {"dev/nvidia0": ""})
    found = seen_gpus(tmp_path)
    assert found == SeenGpus((), None)
    assert found.text == "an NVIDIA GPU"


def test_the_drivers_own_command_tells(nvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    answer = SimpleNamespace(returncode=0, stdout="NVIDIA L4\nNVIDIA L4\n")
    monkeypatch.setattr(subprocess, "run", lambda *_a, **_k: answer)
    assert seen_gpus(tmp_path) == SeenGpus(("NVIDIA L4", "NVIDIA L4"), None)


@pytest.mark.parametrize("error", [FileNotFoundError("nvidia-smi"), subprocess.TimeoutExpired("nvidia-smi", 20)])
def test_a_machine_without_any_has_none(nvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception):
    nvml(nvmlDeviceGetCount=refuse)

    def fail(*_arguments: Any, **_options: Any) -> Any:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert seen_gpus(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "name", "index"),
    [
        ("cpu", "cpu", None),
        ("cuda", "cuda", 0),
        ("cuda:0", "cuda", 0),
        ("cuda:12", "cuda:12", 12),
        ("cuda:x", None, None),
    ],
)
def test_a_device_has_one_name(text: str, name: str | None, index: int | None):
    assert (canonical_device(text), gpu_index(text)) == (name, index)


@pytest.mark.parametrize(
    ("shown", "hidden"), [("", True), ("-1", True), ("-1,0", True), ("0", False), ("GPU-1", False)]
)
def test_the_variable_may_hide_every_gpu(shown: str, hidden: bool):
    assert are_hidden({"CUDA_VISIBLE_DEVICES": shown}) is hidden
    assert not are_hidden({})
