from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.environment.recorded import AMD_TWO_SOCKETS, GRAVITON, INTEL_HYBRID, VIRTUAL, plant
from vggbench.environment import cpu


def cpus_of(text: str) -> frozenset[int]:
    return frozenset(cpu.parse_cpuinfo(text).cores)


def test_amd_two_sockets(tmp_path: Path) -> None:
    plant(tmp_path, {"proc/cpuinfo": AMD_TWO_SOCKETS})
    assert cpu.cpu_model(tmp_path) == "AMD EPYC 9354 32-Core Processor"
    assert cpu.precision_flags(tmp_path) == ("f16c", "fma", "avx", "avx2", "avx512f", "avx512_vnni", "avx512_bf16")
    assert cpu.usable_physical_cores(cpus_of(AMD_TWO_SOCKETS), tmp_path) == 4
    assert cpu.is_virtual(tmp_path) is False


def test_affinity_counts_only_cores_behind_it(tmp_path: Path) -> None:
    plant(tmp_path, {"proc/cpuinfo": AMD_TWO_SOCKETS})
    # CPUs 1 and 5 are two threads of one core.
    assert cpu.usable_physical_cores(frozenset({1, 5}), tmp_path) == 1
    assert cpu.usable_physical_cores(frozenset({1, 2}), tmp_path) == 2


def test_intel_hybrid(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "proc/cpuinfo": INTEL_HYBRID,
            "sys/devices/cpu_core/cpus": "0-3\n",
            "sys/devices/cpu_atom/cpus": "4-7\n",
        },
    )
    assert cpu.usable_physical_cores(cpus_of(INTEL_HYBRID), tmp_path) == 6
    assert cpu.precision_flags(tmp_path) == ("f16c", "fma", "avx", "avx2", "avx_vnni")
    assert cpu.is_hybrid(frozenset(range(8)), tmp_path) is True
    assert cpu.is_hybrid(frozenset({0, 2}), tmp_path) is False


def test_topology_of_the_kernel_goes_before_cpuinfo(tmp_path: Path) -> None:
    topology = "sys/devices/system/cpu/cpu{}/topology/{}"
    plant(
        tmp_path,
        {
            "proc/cpuinfo": VIRTUAL,
            topology.format(0, "core_cpus_list"): "0-1\n",
            topology.format(1, "thread_siblings_list"): "0,1\n",
        },
    )
    assert cpu.usable_physical_cores(frozenset({0, 1}), tmp_path) == 1


def test_arm_has_no_model_name(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "proc/cpuinfo": GRAVITON,
            "sys/devices/system/cpu/cpu0/cpu_capacity": "1024\n",
            "sys/devices/system/cpu/cpu1/cpu_capacity": "512\n",
        },
    )
    assert cpu.cpu_model(tmp_path) == "Arm implementer 0x41 part 0xd40"
    assert cpu.precision_flags(tmp_path) == ("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "svebf16")
    assert cpu.usable_physical_cores(frozenset({0, 1}), tmp_path) == 2
    assert cpu.is_virtual(tmp_path) is None
    assert cpu.is_hybrid(frozenset({0, 1}), tmp_path) is True
    assert cpu.is_hybrid(frozenset({1}), tmp_path) is False


def test_a_hypervisor_is_seen(tmp_path: Path) -> None:
    plant(tmp_path, {"proc/cpuinfo": VIRTUAL})
    assert cpu.is_virtual(tmp_path) is True


def test_without_proc_and_sys_the_system_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setattr(platform, "processor", lambda: "Intel64 Family 6")
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 8 if logical else 4)
    assert cpu.cpu_model(tmp_path) == "Intel64 Family 6"
    assert cpu.precision_flags(tmp_path) is None
    assert cpu.is_virtual(tmp_path) is None
    assert cpu.is_hybrid(frozenset({0}), tmp_path) is None
    assert cpu.caches(0, tmp_path) == {}
    assert cpu.usable_physical_cores(frozenset(range(8)), tmp_path) == 4
    assert cpu.core_counts() == (4, 8)


def test_affinity_where_the_system_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert cpu.affinity() == {0, 1, 2}


def test_macos_names_its_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_kwargs: SimpleNamespace(stdout="Apple M3 Pro\n"))
    assert cpu.cpu_model(tmp_path) == "Apple M3 Pro"


def test_macos_without_sysctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_args: object, **_kwargs: object) -> None:
        raise FileNotFoundError("sysctl")

    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    monkeypatch.setattr(subprocess, "run", missing)
    assert cpu.cpu_model(tmp_path) == "arm"


@pytest.mark.parametrize(("quota", "threads"), [("max", 4), ("250000", 2), ("50000", 1), ("800000", 4)])
def test_threads_follow_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, threads: int) -> None:
    monkeypatch.setattr(cpu, "affinity", lambda: frozenset(range(8)))
    plant(
        tmp_path,
        {
            "proc/cpuinfo": AMD_TWO_SOCKETS,
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": f"{quota} 100000\n",
        },
    )
    assert cpu.default_threads(tmp_path) == threads


def test_threads_on_this_machine() -> None:
    assert 1 <= cpu.default_threads() <= len(cpu.affinity())


def test_caches_leave_instructions_out(tmp_path: Path) -> None:
    cache = "sys/devices/system/cpu/cpu3/cache/index{}/{}"
    rows = [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K"), ("3", "Unified", "odd")]
    files = {
        cache.format(index, name): f"{text}\n"
        for index, row in enumerate(rows)
        for name, text in zip(("level", "type", "size"), row, strict=True)
    }
    assert cpu.caches(3, plant(tmp_path, files)) == {"L1d": 48 << 10, "L2": 2 << 20}


def test_cpu_lists() -> None:
    assert cpu.parse_cpu_list("0-3,8,10-11\n") == {0, 1, 2, 3, 8, 10, 11}
    assert cpu.parse_cpu_list("\n") == frozenset()


@given(st.sets(st.integers(0, 500), min_size=1))
def test_every_cpu_of_a_list_is_found(cpus: set[int]) -> None:
    assert cpu.parse_cpu_list(",".join(map(str, sorted(cpus)))) == cpus


@given(st.text())
def test_no_text_breaks_the_parsers(text: str) -> None:
    cpu.parse_cpu_list(text)
    assert isinstance(cpu.parse_cpuinfo(text).model, str)


def topology(cores: dict[int, tuple[str, str]]) -> dict[str, str]:
    """Return the files of CPUs, each with its package and the hardware threads of its core."""
    folder = "sys/devices/system/cpu/cpu{}/topology/{}"
    return {
        folder.format(number, name): f"{text}\n"
        for number, (package, siblings) in cores.items()
        for name, text in (("physical_package_id", package), ("thread_siblings_list", siblings))
    }


# Two packages of two cores with two hardware threads each, numbered as kernels do.
EIGHT = topology({number: (str(number // 2 % 2), f"{number % 4},{number % 4 + 4}") for number in range(8)})


@pytest.mark.parametrize(
    ("allowed", "threads", "chosen"),
    [
        (range(8), 1, (1,)),  # CPU 0 has the interrupts
        (range(8), 2, (0, 1)),
        (range(8), 3, (0, 1, 2)),
        (range(8), 4, (0, 1, 2, 3)),
        (range(8), 5, (0, 1, 2, 3, 5)),  # a second hardware thread only when no core is left
        (range(8), 8, tuple(range(8))),
        ((0, 4, 2), 2, (0, 2)),
        ((0, 2, 3), 2, (2, 3)),  # one package has both
        ((5,), 1, (5,)),
        ((4, 5), 3, (4, 5)),
    ],
)
def test_threads_get_cores_of_their_own_and_of_one_package(tmp_path: Path, allowed, threads: int, chosen):
    assert cpu.choose_cpus(frozenset(allowed), threads, plant(tmp_path, EIGHT)) == chosen


def test_without_a_topology_every_cpu_is_a_core(tmp_path: Path):
    assert cpu.choose_cpus(frozenset({0, 1, 2}), 2, tmp_path) == (1, 2)


def test_the_hardware_threads_of_a_core(tmp_path: Path):
    assert cpu.physical_cores(frozenset({1, 6}), plant(tmp_path, EIGHT)) == {1: {1, 5}, 6: {2, 6}}
    assert cpu.physical_cores(frozenset({0}), tmp_path / "nothing") == {}
    cpuinfo = plant(tmp_path / "old", {"proc/cpuinfo": AMD_TWO_SOCKETS})
    assert cpu.physical_cores(frozenset({1}), cpuinfo) == {1: {1, 5}}
