"""Counters of a machine that is planted in a folder, and those of this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment.recorded import plant
from vggbench.environment.cpu import affinity
from vggbench.measure.conditions import Conditions, observed

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


def stat(*cpus: str) -> str:
    lines = [f"cpu{number} {times}" for number, times in enumerate(cpus)]
    return "\n".join(["cpu  9 9 9 9 9 9 9 9 9 9", *lines, "intr 5 0 0", "ctxt 77"]) + "\n"


def parent_stat(user: int, system: int) -> str:
    return f"{os.getppid()} (a (nasty) name) S 1 1 1 0 -1 4194560 1 0 0 0 {user} {system} 0 0 20 0 1 0 353617\n"


PARENT = f"proc/{os.getppid()}/stat"
BEFORE = {
    "proc/stat": stat("100 0 0 500 0 0 0 0 0 0", "200 0 0 500 0 0 0 10 0 0", "0 0 0 900 0 0 0 0 0 0"),
    PARENT: parent_stat(50, 10),
    "proc/self/cgroup": "1:cpu:/\n",
    "sys/fs/cgroup/cpu/cpu.stat": "nr_periods 9\nnr_throttled 1\nthrottled_time 1000000000\n",
    "proc/cpuinfo": "processor\t: 0\ncpu MHz\t\t: 2600.5\n\nprocessor\t: 1\ncpu MHz\t\t: 2400.5\n",
}
AFTER = {
    # User, nice, system, interrupts are busy; waiting for a disk is not; guests are in user already.
    "proc/stat": stat("110 20 30 500 40 5 6 0 10 0", "200 0 0 500 0 0 0 13 0 0", "50 0 0 900 0 0 0 7 0 0"),
    PARENT: parent_stat(51, 12),
    "sys/fs/cgroup/cpu/cpu.stat": "nr_periods 99\nnr_throttled 4\nthrottled_time 1500000000\n",
}


@pytest.fixture(autouse=True)
def two_cpus_and_ticks_of_10_ms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vggbench.measure.conditions.affinity", lambda: frozenset({0, 1}))
    monkeypatch.setattr("vggbench.measure.conditions._ticks", lambda: 100)


def between(root: Path, before: dict[str, str], after: dict[str, str]) -> Conditions:
    plant(root, before)
    with observed("cpu", root) as window:
        assert window.conditions is None
        plant(root, after)
    assert window.conditions is not None
    return window.conditions


def test_counters_are_the_difference_of_the_edges(tmp_path: Path):
    found = between(tmp_path, BEFORE, AFTER)
    assert found.cpus == 2
    assert found.busy_s == pytest.approx(0.71)
    assert found.machine_busy_s == pytest.approx(0.71 + 0.5)
    assert found.steal_s == pytest.approx(0.03)
    assert found.parent_cpu_s == pytest.approx(0.03)
    assert (found.throttled_periods, found.throttled_s) == (3, pytest.approx(0.5))
    assert (found.clock_mhz, found.lowest_clock_mhz) == (2500.5, 2400.5)
    assert found.gpu is None


def test_the_other_hardware_thread_of_a_core_counts_as_the_workers(tmp_path: Path):
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    cores = {topology.format(0): "0,2", topology.format(1): "1"}
    found = between(tmp_path, BEFORE | cores, AFTER)
    assert found.busy_s == pytest.approx(0.71 + 0.5)
    assert found.steal_s == pytest.approx(0.03 + 0.07)
    assert found.cpus == 2


def test_the_clock_is_the_frequency_drivers_where_there_is_one(tmp_path: Path):
    clocks = {f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq": f"{cpu + 3}000000\n" for cpu in range(3)}
    found = between(tmp_path, BEFORE | clocks, AFTER)
    assert (found.clock_mhz, found.lowest_clock_mhz) == (3500, 3000)


def test_version_2_of_the_control_groups(tmp_path: Path):
    def group(periods: int, microseconds: int) -> dict[str, str]:
        counters = f"usage_usec 5\nnr_throttled {periods}\nthrottled_usec {microseconds}\n"
        return {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.stat": counters}

    found = between(tmp_path, group(1, 10_000), group(2, 60_000))
    assert (found.throttled_periods, found.throttled_s) == (1, pytest.approx(0.05))


@pytest.mark.parametrize("before", [{}, {"proc/stat": "cpu 1\ncpu0 1 2\n", PARENT: "1 (x) S 1", "proc/cpuinfo": "x"}])
def test_what_is_not_told_is_none(tmp_path: Path, before: dict[str, str]):
    found = between(tmp_path, before, {})
    unknown = ("parent_cpu_s", "busy_s", "machine_busy_s", "steal_s", "throttled_s", "clock_mhz", "lowest_clock_mhz")
    assert [name for name in unknown if getattr(found, name) is not None] == []
    assert found.wall_s > 0
    assert found.own_cpu_s >= 0


def test_a_counter_that_ran_backwards_tells_nothing(tmp_path: Path):
    stolen = stat("100 0 0 500 0 0 0 0 0 0", "200 0 0 500 0 0 0 9 0 0")
    found = between(tmp_path, BEFORE, {**AFTER, "proc/stat": stolen})
    assert found.steal_s is None
    assert found.busy_s == pytest.approx(0)


def test_a_parent_that_ended_meanwhile_is_not_known(tmp_path: Path):
    assert between(tmp_path, BEFORE, {**AFTER, PARENT: ""}).parent_cpu_s is None


def test_what_breaks_inside_leaves_no_conditions(tmp_path: Path):
    with pytest.raises(RuntimeError, match="broke"), observed("cpu", tmp_path) as window:
        raise RuntimeError("broke")
    assert window.conditions is None


@LINUX
def test_this_machine_tells_what_another_process_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    used = 0.2
    work = f"import time\nwhile time.process_time() < {used}: pass"
    with observed("cpu") as window:
        subprocess.run([sys.executable, "-c", work], check=True)
    found = window.conditions
    assert found is not None
    assert found.cpus == len(affinity())
    assert found.busy_s is not None
    assert found.busy_s - found.own_cpu_s > used / 2  # the kernel counts in ticks
    assert found.steal_s is not None
    assert found.steal_s >= 0
    assert found.involuntary_switches is not None
    assert found.involuntary_switches >= 0
