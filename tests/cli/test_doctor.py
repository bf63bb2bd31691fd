from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.environment.recorded import ENVIRONMENT, HARDWARE, QUIET
from vggbench.artefacts.tensorrt_libraries import Examined
from vggbench.cli.doctor import doctor
from vggbench.environment import Environment, NoiseSource
from vggbench.environment.gpu_software import GpuSoftware
from vggbench.environment.gpus import SeenGpus
from vggbench.environment.nvidia import NvidiaFacts
from vggbench.errors import NothingToJudge
from vggbench.measure.client import BackendProbe

TORCH = BackendProbe(
    name="torch", available=True, version="2.11.0", reason="", remedy="", precisions={"fp32": "", "bf16": "no AVX-512"}
)
OPENVINO = BackendProbe(
    name="openvino",
    available=False,
    version="",
    reason="No module named 'openvino'",
    remedy="pip install openvino",
    precisions={},
)


RTX = Examined(
    extra="rtx", label="tensorrt-rtx", version="1.7.1", purpose="builds engines on any machine", reason="", remedy=""
)
TENSORRT = Examined(
    extra="trt10",
    label="tensorrt 10",
    version="",
    purpose="builds engines on its GPU",
    reason="not installed",
    remedy="pip install 'vggbench[trt10]'",
)


def stub(monkeypatch: pytest.MonkeyPatch, environment: Environment, *probes: BackendProbe) -> list[str]:
    """Replace what looks at the machine; the returned list holds the devices that were probed."""
    devices: list[str] = []

    def probe_all(device: str) -> list[BackendProbe]:
        devices.append(device)
        return list(probes)

    monkeypatch.setattr("vggbench.environment.collect", lambda: environment)
    monkeypatch.setattr("vggbench.environment.gpus.seen_gpus", lambda: None)
    monkeypatch.setattr("vggbench.measure.client.probe_all", probe_all)
    monkeypatch.setattr("vggbench.artefacts.tensorrt_libraries.examine", lambda: [RTX, TENSORRT])
    monkeypatch.setattr("vggbench.environment.nvidia.read_nvidia", NvidiaFacts)
    monkeypatch.setattr("vggbench.environment.gpu_software.read_gpu_software", GpuSoftware)
    return devices


def test_everything_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    devices = stub(monkeypatch, ENVIRONMENT, TORCH, OPENVINO)
    doctor(json_output=False)
    shown = capsys.readouterr().out
    for text in (
        "AMD EPYC (x86_64)",
        "4 usable of 4 physical, 8 logical",
        "4 GiB free of 8 GiB",
        "none seen by an NVIDIA driver",
        "Linux 6.1, CPython 3.11.7",
        "2.11.0: fp32",
        "not bf16: no AVX-512",
        "cannot be used: No module named 'openvino'",
        "-> pip install openvino",
        "1.7.1: builds engines on any machine",
        "cannot be used: not installed",
        "-> pip install 'vggbench[trt10]'; builds engines on its GPU",
        "nothing that was read disturbs timings",
    ):
        assert text in shown
    assert "Conflicts" not in shown
    assert devices == ["cpu"]


@pytest.mark.parametrize(("hidden", "devices"), [(False, ["cpu", "cuda"]), (True, ["cpu"])])
def test_a_gpu_has_backends_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], hidden: bool, devices: list[str]
) -> None:
    probed = stub(monkeypatch, ENVIRONMENT, TORCH, OPENVINO)
    monkeypatch.setattr("vggbench.environment.gpus.seen_gpus", lambda: SeenGpus(("NVIDIA H100",), "580.65.06"))
    monkeypatch.setattr("vggbench.environment.gpus.are_hidden", lambda: hidden)
    doctor(json_output=False)
    assert ("Backends on the GPU" in capsys.readouterr().out) is not hidden
    assert probed == devices


def test_limits_noise_and_conflicts_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hardware = replace(
        HARDWARE,
        cgroup_cpu_quota=1.5,
        cgroup_memory_limit_bytes=512 << 20,
        physical_cores=None,
        logical_cores=None,
        cpu_flags=None,
        caches={"L1d": 49152},
        gpus=("NVIDIA L4",),
    )
    environment = replace(
        ENVIRONMENT,
        hardware=hardware,
        noise=replace(QUIET, turbo=None),
        noise_sources=(NoiseSource("load", "Others are busy.", "Wait a minute."),),
        distribution_conflicts=("onnxruntime 1 and onnxruntime-gpu 2 collide",),
        libraries={"vggbench": "0.1.0", "onnxruntime": None, "onnxruntime-gpu": "1.31", "onnx": None},
    )
    stub(monkeypatch, environment, TORCH)
    doctor(json_output=False)
    shown = capsys.readouterr().out.splitlines()
    for text in (
        "  cores             4 usable, the cgroup grants 1.5",
        "  instructions      not listed by this system",
        "  caches            L1d 48 KiB",
        "  memory            4 GiB free of 8 GiB, the cgroup allows 512 MiB",
        "  GPU               NVIDIA L4",
        "  vggbench          0.1.0, commit 0123456789",
        "  not installed     onnx",
        "  load              Others are busy.",
        "                    -> Wait a minute.",
        "  not visible here  turbo",
        "  onnxruntime 1 and onnxruntime-gpu 2 collide",
    ):
        assert text in shown


@pytest.mark.parametrize(
    ("masks", "text"), [(True, "workers are kept to CPU 2, 3"), (False, "this system lets no process choose its CPUs")]
)
def test_where_workers_are_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], masks: bool, text: str
) -> None:
    monkeypatch.setattr("vggbench.environment.cpu.choose_cpus", lambda _cpus, threads: (2, 3)[:threads])
    monkeypatch.setattr("vggbench.measure.pinning.can_pin", lambda: masks)
    stub(monkeypatch, ENVIRONMENT, TORCH)
    doctor(json_output=False)
    assert f"  pinning           {text}" in capsys.readouterr().out


def test_json_is_one_object(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stub(monkeypatch, ENVIRONMENT, TORCH, OPENVINO)
    doctor(json_output=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["hardware"]["cpu_model"] == "AMD EPYC"
    assert [(probe["name"], probe["available"]) for probe in shown["backends"]] == [
        ("torch", True),
        ("openvino", False),
    ]
    assert {name: shown[name] for name in ENVIRONMENT.to_json()} == ENVIRONMENT.to_json()


@pytest.mark.parametrize("json_output", [False, True])
@pytest.mark.parametrize("probes", [(OPENVINO,), ()])
def test_no_backend_at_all_is_nothing_to_judge(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    probes: tuple[BackendProbe, ...],
    *,
    json_output: bool,
) -> None:
    stub(monkeypatch, ENVIRONMENT, *probes)
    with pytest.raises(NothingToJudge, match="no backend can be used") as caught:
        doctor(json_output=json_output)
    assert caught.value.exit_code == 4
    shown = capsys.readouterr().out
    assert not json_output or json.loads(shown)["backends"] == [
        {
            "name": probe.name,
            "available": False,
            "version": "",
            "reason": probe.reason,
            "remedy": probe.remedy,
            "precisions": {},
        }
        for probe in probes
    ]


def test_a_backend_without_native_precision_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub(monkeypatch, ENVIRONMENT, replace(TORCH, precisions={"fp32": "emulated"}))
    doctor(json_output=False)
    assert "2.11.0: no precision natively" in capsys.readouterr().out


def test_what_goes_together_on_the_gpu_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub(monkeypatch, ENVIRONMENT, TORCH)
    old = NvidiaFacts(driver="550.54.15", cuda=(12, 4), source="NVML")
    monkeypatch.setattr("vggbench.environment.nvidia.read_nvidia", lambda: old)
    doctor(json_output=False)
    shown = capsys.readouterr().out.splitlines()
    assert "  NVIDIA driver     550.54.15, supports CUDA 12.4, told by NVML" in shown
    assert "                    -> update it to 580.65.06 or newer for CUDA 13" in shown
    doctor(json_output=True)
    cuda = json.loads(capsys.readouterr().out)["cuda"]
    assert cuda["driver"]["cuda"] == [12, 4]
    assert cuda["row"]["constraints"] == "constraints/cuda12.txt"
    assert {finding["subject"] for finding in cuda["advice"]} >= {"NVIDIA driver", "goes together", "torch", "tensorrt"}
    assert cuda["libraries"]["torch"] is None
