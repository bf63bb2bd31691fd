from __future__ import annotations

import json
import platform
from dataclasses import replace
from pathlib import Path

import pytest

from tests.environment.recorded import AMD_TWO_SOCKETS, BLIND, QUIET, plant
from vggbench.environment import collect, device_name, gpus, noise, noise_sources
from vggbench.environment.reading import read_hardware, read_system


def test_a_collected_environment_survives_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "read_facts", lambda: QUIET)
    environment = collect()
    data = environment.to_json()
    assert json.loads(json.dumps(data)) == data
    assert environment.noise_sources == ()
    assert environment.hardware.usable_cores >= 1
    assert environment.system.python == platform.python_version()


def test_noise_sources_judges_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "read_facts", lambda: replace(BLIND, hypervisor=True))
    assert "hypervisor" in [source.name for source in noise_sources()]


def test_hardware_of_a_planted_system(tmp_path: Path) -> None:
    plant(tmp_path, {"proc/cpuinfo": AMD_TWO_SOCKETS})
    hardware = read_hardware(tmp_path)
    assert hardware.cpu_model == "AMD EPYC 9354 32-Core Processor"
    assert hardware.caches == {}
    assert hardware.gpus == ()
    assert 0 < hardware.memory_available_bytes <= hardware.memory_total_bytes


def test_a_system_without_proc_and_sys_is_described(tmp_path: Path) -> None:
    hardware = read_hardware(tmp_path)
    assert hardware.cpu_model
    assert hardware.cpu_flags is None
    assert read_system(tmp_path).driver is None


def test_device_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "gpu_names", lambda: ("NVIDIA H200", "NVIDIA L4"))
    assert device_name("cpu")
    assert device_name("cuda") == "NVIDIA H200"
    assert device_name("cuda:1") == "NVIDIA L4"
    assert [device_name(name) for name in ("cuda:2", "cuda:x", "tpu", "tpu:0")] == ["", "", "", ""]
