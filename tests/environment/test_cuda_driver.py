"""The driver's library, by one that is compiled here and tells of two GPUs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vggbench.environment import cuda_driver
from vggbench.environment.cuda_driver import Gpu, alone, find_gpu

SOURCE = r"""
#include <string.h>
int cuInit(unsigned flags) { return flags; }
int cuDeviceGet(int *device, int index) { *device = 10 + index; return index > 1 ? 101 : 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, device == 10 ? "Big" : "Small", size); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = (attribute == 75 ? 8 : 9) + (device == 10);
    return 0;
}
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to make a stub of the driver's library")
    (tmp_path / "driver.c").write_text(SOURCE)
    library = tmp_path / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", tmp_path / "driver.c", "-o", library], check=True)
    monkeypatch.setattr(cuda_driver, "LIBRARY", str(library))
    find_gpu.cache_clear()
    yield
    find_gpu.cache_clear()


def test_gpus_are_named_with_their_compute_capability(driver: None) -> None:
    assert find_gpu("cuda") == find_gpu("cuda:0") == Gpu("Big", (9, 10))
    found = find_gpu("cuda:1")
    assert found == Gpu("Small", (8, 9))
    assert found.identity == "Small 8.9"
    assert find_gpu("cuda:2") is None


def test_without_a_driver_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libnothing.so.1")
    find_gpu.cache_clear()
    assert find_gpu("cuda") is None
    find_gpu.cache_clear()


@pytest.mark.parametrize(
    ("visible", "device", "variables"),
    [
        (None, "cuda", {}),
        (None, "cuda:1", {"CUDA_VISIBLE_DEVICES": "1"}),
        ("3,5", "cuda", {}),
        ("3, 5", "cuda:1", {"CUDA_VISIBLE_DEVICES": "5"}),
        ("GPU-a,MIG-b", "cuda:1", {"CUDA_VISIBLE_DEVICES": "MIG-b"}),
    ],
)
def test_a_process_sees_one_gpu_alone(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, device: str, variables: dict[str, str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert alone(device) == variables
