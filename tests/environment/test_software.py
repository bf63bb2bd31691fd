from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import pytest

from tests.environment.recorded import plant
from vggbench.environment import software
from vggbench.version import VERSION


def installed(**versions: str) -> list[SimpleNamespace]:
    """Distributions that each own the package their name says, but for ONNX Runtime's, which share one."""
    own = {"onnxruntime_extensions": "onnxruntime_extensions", "numpy": "numpy"}
    return [
        SimpleNamespace(
            name=name.replace("_", "-"),
            version=version,
            files=[PurePosixPath(own.get(name, "onnxruntime"), "__init__.py"), PurePosixPath("x.dist-info/RECORD")],
        )
        for name, version in versions.items()
    ]


def on_machine(monkeypatch: pytest.MonkeyPatch, system: str, machine: str, found: list[SimpleNamespace]) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(metadata, "distributions", lambda: found)


def test_versions_come_without_importing() -> None:
    versions = software.library_versions()
    assert versions["vggbench"] == VERSION
    assert versions["numpy"] == metadata.version("numpy")
    assert set(versions) == {*software.LIBRARIES, "vggbench"}


def test_what_is_not_installed_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "LIBRARIES", ("no-such-distribution",))
    assert software.library_versions() == {"vggbench": VERSION, "no-such-distribution": None}


@pytest.mark.parametrize(
    ("system", "machine", "kept"),
    [("linux", "x86_64", "onnxruntime-gpu==1.31.1"), ("darwin", "arm64", "onnxruntime==1.24.0")],
)
def test_two_onnx_runtimes_are_named_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, kept: str
) -> None:
    found = installed(onnxruntime="1.24.0", onnxruntime_gpu="1.31.1", onnxruntime_extensions="0.14", numpy="2.0")
    on_machine(monkeypatch, system, machine, found)
    (conflict,) = software.distribution_conflicts()
    assert "onnxruntime 1.24.0 and onnxruntime-gpu 1.31.1" in conflict
    assert "`pip uninstall -y onnxruntime onnxruntime-gpu`" in conflict
    assert f"`pip install {kept}`" in conflict


def test_a_conflict_without_ours_keeps_one_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(monkeypatch, "linux", "x86_64", installed(onnxruntime_openvino="1.22", onnxruntime="1.24"))
    (conflict,) = software.distribution_conflicts()
    assert "`pip install onnxruntime==1.24`" in conflict


def test_one_onnx_runtime_is_no_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(monkeypatch, "linux", "x86_64", installed(onnxruntime_gpu="1.31.1", onnxruntime_extensions="0.14"))
    assert software.distribution_conflicts() == []


def test_distributions_without_name_or_files_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = [
        SimpleNamespace(name=None, version="1", files=None),
        SimpleNamespace(name="onnxruntime", version="1", files=None),
    ]
    on_machine(monkeypatch, "linux", "x86_64", odd)
    assert software.distribution_conflicts() == []


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n", "535.183.01"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n", "580.65.06"),
        ("something else\n", None),
    ],
)
def test_driver_version(tmp_path: Path, text: str, version: str | None) -> None:
    assert software.driver_version(plant(tmp_path, {"proc/driver/nvidia/version": text})) == version


def test_no_driver(tmp_path: Path) -> None:
    assert software.driver_version(tmp_path) is None
    assert software.gpu_names(tmp_path) == ()


def test_gpus_in_the_order_of_their_addresses(tmp_path: Path) -> None:
    text = "Model: \t\t NVIDIA {}\nIRQ:   \t\t 16\nGPU UUID: \t GPU-1\n"
    gpus = "proc/driver/nvidia/gpus/{}/information"
    plant(tmp_path, {gpus.format("0000:81:00.0"): text.format("L4"), gpus.format("0000:01:00.0"): text.format("H200")})
    assert software.gpu_names(tmp_path) == ("NVIDIA H200", "NVIDIA L4")


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    answer = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()


def test_commit_of_a_checkout(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert software.source_commit(tmp_path) is None
    (tmp_path / "file").write_text("one\n")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    git(tmp_path, "tag", "v1")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert software.source_commit(tmp_path) == commit
    (tmp_path / "file").write_text("two\n")
    assert software.source_commit(tmp_path) == f"{commit}-dirty"


def test_no_checkout_no_commit(tmp_path: Path) -> None:
    assert software.source_commit(tmp_path) is None


def test_git_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", "")
    assert software.source_commit(tmp_path) is None


def test_variables_are_those_that_change_how_libraries_compute() -> None:
    found = {"OMP_NUM_THREADS": "4", "DNNL_MAX_CPU_ISA": "AVX2", "LD_PRELOAD": "libtcmalloc.so", "HOME": "/home/me"}
    places = {"TORCHINDUCTOR_CACHE_DIR": "/tmp", "ORT_DYLIB_PATH": "/opt"}
    chosen = software.library_variables({**found, **places})
    assert list(chosen) == ["DNNL_MAX_CPU_ISA", "LD_PRELOAD", "OMP_NUM_THREADS"]
    assert chosen["DNNL_MAX_CPU_ISA"] == "AVX2"
