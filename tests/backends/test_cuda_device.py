"""What torch says of a GPU is made up here; this machine's own answer is asked in the last test."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import pytest

from vggbench.backends import cuda_device
from vggbench.backends.base import Unavailable
from vggbench.backends.cuda_device import named, native_on, unusable
from vggbench.environment.gpus import SeenGpus, seen_gpus
from vggbench.environment.nvidia import NvidiaFacts

torch = pytest.importorskip("torch")
H100 = SeenGpus(("NVIDIA H100",), "470.82.01")
COMPLAINT = "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040).\nSecond line."


@dataclass(frozen=True)
class Made:
    """A machine: devices that CUDA has, what torch warns of, GPUs seen, the driver's CUDA, and the capability."""

    devices: int = 1
    complaint: str = ""
    seen: SeenGpus | None = H100
    driver: tuple[int, int] | None = (13, 0)
    capability: tuple[int, int] = (9, 0)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def make(made: Made) -> None:
        def is_available() -> bool:
            if made.complaint:
                warnings.warn(made.complaint, stacklevel=1)
            return made.devices > 0

        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "is_available", is_available)
        monkeypatch.setattr(torch._C, "_cuda_getDeviceCount", lambda: made.devices)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _index: made.capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _index: "NVIDIA Made Up")
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90", "sm_100", "compute_120"])
        monkeypatch.setattr(cuda_device, "seen_gpus", lambda: made.seen)
        monkeypatch.setattr(cuda_device, "read_nvidia", lambda: NvidiaFacts(cuda=made.driver))

    return make


def refused(device: str) -> Unavailable:
    found = unusable(device)
    assert found is not None
    assert "--device cpu" in found.remedy
    return found


def test_what_torch_can_use_is_usable(machine):
    machine(Made(devices=2))
    assert unusable("cpu") is None
    assert unusable("cuda") is None
    assert unusable("cuda:1") is None


def test_a_gpu_that_is_not_there(machine, monkeypatch: pytest.MonkeyPatch):
    machine(Made(devices=2))
    assert refused("cuda:2").reason == "there is no cuda:2: CUDA has cuda, cuda:1"
    machine(Made(devices=1))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-12ab")
    assert refused("cuda:1").reason == "there is no cuda:1: CUDA has cuda with CUDA_VISIBLE_DEVICES=MIG-12ab"


def test_no_gpu_at_all(machine):
    machine(Made(devices=0, seen=None, driver=None))
    assert refused("cuda").reason == "no NVIDIA GPU is seen here"


def test_a_driver_that_is_too_old(machine):
    machine(Made(devices=0, complaint=COMPLAINT, driver=(11, 4)))
    found = refused("cuda")
    assert found.reason.startswith("NVIDIA H100, driver 470.82.01: the driver serves CUDA up to 11.4, torch ")
    assert found.reason.endswith("needs 13.0")
    assert found.remedy.startswith("update the driver to 580.65.06 or newer, install a torch for CUDA 11")


def test_what_cuda_says_itself_is_handed_on(machine):
    machine(Made(devices=0, complaint=COMPLAINT))
    assert refused("cuda").reason == f"NVIDIA H100, driver 470.82.01: {COMPLAINT.splitlines()[0]}"
    machine(Made(devices=0, driver=None))
    assert refused("cuda").reason == "NVIDIA H100, driver 470.82.01: CUDA finds no device"


def test_gpus_that_are_hidden(machine, monkeypatch: pytest.MonkeyPatch):
    machine(Made(devices=0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert refused("cuda").reason == "CUDA_VISIBLE_DEVICES='-1' hides every GPU"


def test_a_gpu_that_torch_was_not_built_for(machine):
    machine(Made(capability=(6, 1)))
    found = refused("cuda")
    assert "compute capability 6.1, torch " in found.reason
    assert found.reason.endswith("is built for 7.5 and newer")


def test_a_torch_without_cuda(machine, monkeypatch: pytest.MonkeyPatch):
    machine(Made())
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "is built without CUDA" in refused("cuda").reason


@pytest.mark.parametrize(
    ("precision", "capability", "reason"),
    [
        ("fp32", (7, 5), ""),
        ("fp16", (7, 5), ""),
        ("tf32", (7, 5), "tf32 needs compute capability 8.0, NVIDIA Made Up has 7.5"),
        ("bf16", (8, 0), ""),
        ("fp8", (8, 6), "fp8 needs compute capability 8.9, NVIDIA Made Up has 8.6"),
        ("fp8", (8, 9), ""),
        ("tf32", (12, 0), ""),
    ],
)
def test_a_gpu_may_be_too_old_for_a_precision(machine, precision: str, capability: tuple[int, int], reason: str):
    machine(Made(capability=capability))
    found = native_on(precision, "cuda")
    assert (found.supported, found.reason) == (not reason, reason)


def test_the_first_gpu_has_one_name():
    names = [named(torch.device(name)) for name in ("cpu", "cuda", "cuda:0", "cuda:1")]
    assert names == ["cpu", "cuda", "cuda", "cuda:1"]


@pytest.mark.skipif(seen_gpus() is not None, reason="there is a GPU here")
def test_this_machine_without_a_gpu_says_so():
    assert refused("cuda").reason == "no NVIDIA GPU is seen here"
