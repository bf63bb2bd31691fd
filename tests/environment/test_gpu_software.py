"""Packages are folders that a test writes; nothing is imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.environment.recorded import plant
from vggbench.environment import gpu_software
from vggbench.environment.gpu_software import GpuSoftware, TensorRt, package_folder, read_gpu_software

# As torch 2.14.1 and onnxruntime-gpu 1.31.1 have them.
TORCH = "from typing import Optional\n\n__version__ = '2.14.1+cu130'\ndebug = False\ncuda: Optional[str] = '13.0'\n"
CPU_TORCH = "__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n"
RUNTIME = "package_name = 'onnxruntime-gpu'\n__version__ = '1.31.1'\ncuda_version = '13.0'\n"
PROVIDER = "\0libnvinfer.so.10\0libnvinfer_plugin.so.10\0libcudart.so.13\0"


@pytest.fixture(autouse=True)
def no_library_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)


def read(root: Path, files: Mapping[str, str], versions: Mapping[str, str]) -> GpuSoftware:
    plant(root, files)

    def place(name: str) -> Path | None:
        folder = root / "site" / name
        return folder if folder.is_dir() else None

    return read_gpu_software(root, place=place, version=versions.get)


def test_everything_installed_is_read(tmp_path: Path) -> None:
    files = {
        "site/torch/version.py": TORCH,
        "site/onnxruntime/capi/build_and_package_info.py": RUNTIME,
        "site/onnxruntime/capi/libonnxruntime_providers_tensorrt.so": PROVIDER,
        "site/tensorrt_libs/libnvinfer.so.10": "",
        "site/tensorrt_libs/libnvinfer_plugin.so.10": "",
        "usr/lib/x86_64-linux-gnu/libnvinfer.so.10": "",
        "usr/lib/x86_64-linux-gnu/libnvinfer.so.8": "",
        "usr/lib/x86_64-linux-gnu/libnvinfer.so.8.6.1": "",
        "site/tensorrt_rtx_libs/libtensorrt_rtx.so.1": "",
    }
    versions = {
        "torch": "2.14.1",
        "onnxruntime-gpu": "1.31.1",
        "tensorrt-cu12": "10.16.1.11",
        "tensorrt-rtx-cu13": "1.7.1.116",
    }
    found = read(tmp_path, files, versions)
    assert (found.torch, found.torch_cuda) == ("2.14.1", (13, 0))
    assert (found.onnxruntime, found.onnxruntime_cuda, found.wanted_nvinfer) == ("1.31.1", (13, 0), 10)
    full, rtx = found.found("tensorrt"), found.found("tensorrt-rtx")
    assert full.libraries == {
        8: str(tmp_path / "usr/lib/x86_64-linux-gnu/libnvinfer.so.8"),
        10: str(tmp_path / "site/tensorrt_libs/libnvinfer.so.10"),
    }
    assert (full.distribution, full.major, full.cuda_major) == ("tensorrt-cu12", 10, 12)
    assert (rtx.distribution, rtx.major, rtx.cuda_major) == ("tensorrt-rtx-cu13", 1, 13)


def test_nothing_installed_is_none(tmp_path: Path) -> None:
    found = read(tmp_path, {}, {})
    nothing = [
        TensorRt(name=name, version=None, distribution="", libraries={}) for name in ("tensorrt", "tensorrt-rtx")
    ]
    assert found == GpuSoftware(tensorrt=tuple(nothing))
    assert found.found("tensorrt").major is None
    assert GpuSoftware().found("tensorrt-rtx") == nothing[1]


def test_builds_for_the_cpu_have_no_cuda(tmp_path: Path) -> None:
    files = {"site/torch/version.py": CPU_TORCH, "site/onnxruntime/capi/build_and_package_info.py": "__version__ = '1'"}
    found = read(tmp_path, files, {"torch": "2.13.0+cpu", "onnxruntime": "1.31.1"})
    assert (found.torch_cuda, found.onnxruntime_cuda, found.wanted_nvinfer) == (None, None, None)
    assert found.onnxruntime == "1.31.1"


def test_the_library_path_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", f":{tmp_path / 'mine'}")
    found = read(tmp_path, {"mine/libnvinfer.so.11": ""}, {"tensorrt": "11.4.0.106"}).found("tensorrt")
    assert found.libraries == {11: str(tmp_path / "mine/libnvinfer.so.11")}
    assert found.cuda_major is None  # the name tells none


def test_a_package_is_found_without_being_imported() -> None:
    import sys

    folder = package_folder("xml")
    assert folder is not None
    assert (folder / "__init__.py").is_file()
    assert package_folder("no_such_package") is None
    assert gpu_software._version("no-such-distribution") is None
    assert "no_such_package" not in sys.modules


def test_this_environment_is_read_as_its_libraries_say() -> None:
    torch = package_folder("torch")
    if torch is None:
        pytest.skip("torch is not installed")
    found = read_gpu_software()
    assert found.torch
    shown = f"cuda: Optional[str] = '{'.'.join(map(str, found.torch_cuda))}'" if found.torch_cuda else "= None"
    assert shown in (torch / "version.py").read_text()
