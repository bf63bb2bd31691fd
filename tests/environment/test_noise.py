from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from tests.environment.recorded import VIRTUAL, plant
from vggbench.environment import noise
from vggbench.environment.noise import Counters, compare_counters, read_facts

GOVERNOR = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"


def no_sleep(_seconds: float) -> None: ...


def counters(**changes: Any) -> Counters:
    whole = {"cpus": 4, "busy": 100.0, "stolen": 1.0, "total": 400.0, "own": 10.0, "processes": {7: ("cc1plus", 5.0)}}
    return Counters(**(whole | changes))


def test_our_own_work_is_not_noise() -> None:
    activity = compare_counters(counters(), counters(busy=100.5, own=10.5, total=402.0), 0.5)
    assert activity.other_cpu_cores == 0.0
    assert activity.busiest == ()


def test_others_are_named_busiest_first() -> None:
    before = counters(processes={7: ("cc1plus", 5.0), 8: ("chrome", 9.0), 9: ("sshd", 1.0)})
    after = counters(
        busy=100.8,
        total=402.0,
        processes={7: ("cc1plus", 5.2), 8: ("chrome", 9.5), 9: ("sshd", 1.0), 10: ("new", 90.0)},
    )
    activity = compare_counters(before, after, 0.5)
    assert activity.other_cpu_cores == 1.6
    assert activity.busiest == ("chrome (8)", "cc1plus (7)")


@pytest.mark.parametrize(("stolen", "expected"), [(1.5, 25.0), (1.0, 0.0), (None, None)])
def test_stolen_time_is_a_share_of_all(stolen: float | None, expected: float | None) -> None:
    assert compare_counters(counters(), counters(stolen=stolen, total=402.0), 1.0).steal_percent == expected


def test_a_clock_that_stood_still_gives_no_share() -> None:
    activity = compare_counters(counters(), counters(busy=101.0), 1.0)
    assert (activity.steal_percent, activity.other_cpu_cores) == (None, 0.0)


def test_no_more_cores_are_busy_than_there_are() -> None:
    assert compare_counters(counters(), counters(busy=102.1, total=402.0), 0.5).other_cpu_cores == 4.0


def test_facts_of_a_planted_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1.25, 0.5, 0.1))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(used=5 << 20))
    plant(
        tmp_path,
        {
            "proc/cpuinfo": VIRTUAL,
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.stat": "nr_throttled 2\nthrottled_usec 1000\n",
            GOVERNOR.format(0): "powersave\n",
            GOVERNOR.format(1): "performance\n",
            "sys/devices/system/cpu/cpufreq/boost": "1\n",
        },
    )
    facts = read_facts(tmp_path, no_sleep)
    assert facts.load_average_1min == 1.25
    assert facts.governors == ("performance", "powersave")
    assert facts.turbo is True
    assert (facts.throttled_periods, facts.throttled_s) == (2, 0.001)
    assert facts.hypervisor is True
    assert facts.swap_used_bytes == 5 << 20


@pytest.mark.parametrize(("text", "turbo"), [("0\n", True), ("1\n", False)])
def test_intels_switch_is_the_other_way_round(tmp_path: Path, text: str, *, turbo: bool) -> None:
    plant(tmp_path, {"sys/devices/system/cpu/intel_pstate/no_turbo": text})
    assert read_facts(tmp_path, no_sleep).turbo is turbo


def test_a_system_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("performance counters are off")

    monkeypatch.delattr(os, "getloadavg", raising=False)
    monkeypatch.setattr(psutil, "swap_memory", broken)
    facts = read_facts(tmp_path, no_sleep)
    assert (facts.load_average_1min, facts.governors, facts.turbo) == (None, None, None)
    assert (facts.throttled_periods, facts.hypervisor, facts.swap_used_bytes) == (None, None, None)


def process(pid: int, name: str, times: Callable[[], Any]) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, cpu_times=times, name=lambda: name)


def test_processes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise psutil.NoSuchProcess(4)

    used = SimpleNamespace(user=2.0, system=1.0)
    listed = [process(1, "ours", lambda: used), process(2, "child", lambda: used), process(3, "other", lambda: used)]
    ours = SimpleNamespace(pid=1, children=lambda recursive: [listed[1]])
    monkeypatch.setattr(psutil, "Process", lambda: ours)
    monkeypatch.setattr(psutil, "process_iter", lambda: [*listed, process(4, "gone", gone)])
    found = noise._counters()
    assert found.own == 6.0
    assert found.processes == {3: ("other", 3.0)}
    assert 0 < found.busy < found.total


def test_the_window_is_as_long_as_declared(tmp_path: Path) -> None:
    slept: list[float] = []
    read_facts(tmp_path, slept.append)
    assert slept == [noise.WINDOW_S]
