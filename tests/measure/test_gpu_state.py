"""NVML is a fake module here; the one of a real GPU is asked the same questions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from vggbench.environment import gpus
from vggbench.measure import gpu_state
from vggbench.measure.gpu_state import SLOWDOWNS, GpuState, idle_power_w, read_energy_j, read_gpu


class NvmlError(Exception):
    """What every NVML call raises."""


def fake_nvml(**changes: Any) -> ModuleType:
    module = ModuleType("pynvml")
    clocks = {1: 1980, 2: 2619}
    answers: dict[str, Any] = {
        "NVMLError": NvmlError,
        "NVML_CLOCK_SM": 1,
        "NVML_CLOCK_MEM": 2,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda index: f"gpu {index}",
        "nvmlDeviceGetHandleByUUID": lambda uuid: f"gpu {uuid}",
        "nvmlDeviceGetClockInfo": lambda _handle, kind: clocks[kind],
        "nvmlDeviceGetPowerUsage": lambda _handle: 412_500,
        "nvmlDeviceGetTemperature": lambda _handle, _sensor: 61,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda _handle: 0x1,
    }
    module.__dict__.update({**answers, **changes})
    return module


@pytest.fixture(autouse=True)
def forget_handles() -> Iterator[None]:
    gpus._handle.cache_clear()
    yield
    gpus._handle.cache_clear()


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch):
    def install(**changes: Any) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(**changes))

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return install


def refuse(*_arguments: Any) -> Any:
    raise NvmlError("not supported")


def test_a_gpu_says_clocks_power_and_temperature(nvml):
    nvml()
    state = GpuState(sm_clock_mhz=1980, memory_clock_mhz=2619, power_w=412.5, temperature_c=61, slowdowns=())
    assert read_gpu("cuda") == state


@pytest.mark.parametrize(("bit", "name"), SLOWDOWNS.items())
def test_what_holds_the_clocks_down_is_named(nvml, bit: int, name: str):
    nvml(nvmlDeviceGetCurrentClocksEventReasons=lambda _handle: bit | 0x1 | 0x2)
    state = read_gpu("cuda")
    assert state is not None
    assert state.slowdowns == (name,)


def test_the_bits_are_those_of_the_library():
    pynvml = pytest.importorskip("pynvml")
    names = ("SwPowerCap", "HwSlowdown", "SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown")
    assert list(SLOWDOWNS) == [getattr(pynvml, f"nvmlClocksEventReason{name}") for name in names]


def test_what_a_gpu_does_not_tell_is_none(nvml):
    questions = ("ClockInfo", "PowerUsage", "Temperature", "CurrentClocksEventReasons")
    nvml(**{f"nvmlDeviceGet{question}": refuse for question in questions})
    nothing = GpuState(sm_clock_mhz=None, memory_clock_mhz=None, power_w=None, temperature_c=None, slowdowns=None)
    assert read_gpu("cuda:0") == nothing


@pytest.mark.parametrize("changes", [{"nvmlInit": refuse}, {"nvmlDeviceGetHandleByIndex": refuse}])
def test_without_a_driver_or_such_a_gpu_nothing_is_known(nvml, changes: dict[str, Any]):
    nvml(**changes)
    assert read_gpu("cuda:7") is None


def test_without_the_library_nothing_is_known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert read_gpu("cuda") is None


def test_a_processor_is_no_gpu():
    assert read_gpu("cpu") is None


@pytest.mark.parametrize(
    ("visible", "device", "handle"),
    [("3,2", "cuda:1", "gpu 2"), ("GPU-ab", "cuda", "gpu GPU-ab"), ("MIG-cd", "cuda", "gpu MIG-cd")],
)
def test_the_gpu_is_the_one_that_cuda_shows(
    nvml, monkeypatch: pytest.MonkeyPatch, visible: str, device: str, handle: str
):
    asked = []
    nvml(nvmlDeviceGetPowerUsage=lambda found: asked.append(found) or 1000)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    read_gpu(device)
    assert asked == [handle]


@pytest.mark.parametrize("visible", ["", "-1", "-1,0"])
def test_a_gpu_that_is_hidden_from_cuda_is_not_asked(nvml, monkeypatch: pytest.MonkeyPatch, visible: str):
    nvml()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert read_gpu("cuda") is None


def test_a_gpu_that_cuda_does_not_show_is_not_asked(nvml, monkeypatch: pytest.MonkeyPatch):
    nvml()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert read_gpu("cuda:1") is None


def test_energy_is_the_counters_in_joules(nvml):
    nvml(nvmlDeviceGetTotalEnergyConsumption=lambda _handle: 1_234_500)
    assert read_energy_j("cuda") == 1234.5
    assert read_energy_j("cpu") is None


def test_a_gpu_without_the_counter_has_none(nvml):
    nvml(nvmlDeviceGetTotalEnergyConsumption=refuse)
    assert (read_energy_j("cuda"), idle_power_w("cuda")) == (None, None)


def test_idle_power_is_energy_over_time(nvml, monkeypatch: pytest.MonkeyPatch):
    counter, clock = iter([10_000, 150_000]), iter([5.0, 7.0])
    nvml(nvmlDeviceGetTotalEnergyConsumption=lambda _handle: next(counter))
    monkeypatch.setattr(gpu_state, "time", SimpleNamespace(sleep=lambda _s: None, perf_counter=lambda: next(clock)))
    assert idle_power_w("cuda") == 70.0
