from __future__ import annotations

from dataclasses import replace

import pytest

from tests.environment.recorded import BLIND, HARDWARE, QUIET
from vggbench.environment.judgement import judge, unreadable
from vggbench.environment.records import Activity, NoiseFacts


def busy(cores: float, *names: str, steal: float = 0.0) -> Activity:
    return Activity(other_cpu_cores=cores, busiest=names, steal_percent=steal)


def test_a_quiet_machine_has_no_noise() -> None:
    assert judge(QUIET, HARDWARE) == []
    assert unreadable(QUIET) == []


def test_what_cannot_be_read_is_not_judged_but_listed() -> None:
    assert judge(BLIND, HARDWARE) == []
    assert unreadable(BLIND) == [
        "load average",
        "frequency governor",
        "turbo",
        "cgroup throttling",
        "hypervisor",
        "swap",
        "CPU time stolen by the hypervisor",
    ]


@pytest.mark.parametrize(
    ("facts", "name", "words"),
    [
        (replace(QUIET, load_average_1min=2.5), "load", "2.50 threads on average wanted one of 8 cores"),
        (replace(QUIET, activity=busy(1.4, "cc1plus (7)")), "other processes", "1.4 cores busy (cc1plus (7))"),
        (replace(QUIET, activity=busy(1.4)), "other processes", "none of them visible from here"),
        (replace(QUIET, activity=busy(0.0, steal=12.4)), "stolen time", "12 % of this machine's CPU time"),
        (replace(QUIET, governors=("performance", "powersave")), "frequency governor", "(governor powersave)"),
        (replace(QUIET, turbo=True), "turbo", "temperature"),
        (replace(QUIET, throttled_periods=3, throttled_s=1.25), "cgroup throttling", "3 times since it began, 1.2 s"),
        (replace(QUIET, throttled_periods=3, throttled_s=None), "cgroup throttling", "3 times since it began."),
        (replace(QUIET, hypervisor=True), "hypervisor", "virtual machine"),
        (replace(QUIET, swap_used_bytes=300 << 20), "swap", "300 MiB"),
    ],
)
def test_each_fact_is_judged_on_its_own(facts: NoiseFacts, name: str, words: str) -> None:
    (source,) = judge(facts, HARDWARE)
    assert source.name == name
    assert words in source.sentence
    assert source.remedy


@pytest.mark.parametrize(
    "facts",
    [
        replace(QUIET, load_average_1min=2.0),
        replace(QUIET, activity=busy(0.09)),
        replace(QUIET, activity=busy(0.0, steal=1.9)),
        replace(QUIET, swap_used_bytes=(1 << 20) - 1),
    ],
)
def test_below_its_threshold_nothing_is_said(facts: NoiseFacts) -> None:
    assert judge(facts, HARDWARE) == []


def test_a_quota_below_the_cpus_is_noise() -> None:
    (source,) = judge(QUIET, replace(HARDWARE, cgroup_cpu_quota=1.5))
    assert "grants 1.5 cores of CPU time, spread over 8 CPUs" in source.sentence
    assert "--threads 1" in source.remedy
    assert judge(QUIET, replace(HARDWARE, cgroup_cpu_quota=8.0)) == []


def test_mixed_cores_are_noise() -> None:
    (source,) = judge(QUIET, replace(HARDWARE, hybrid=True))
    assert source.name == "hybrid cores"


def test_the_gravest_comes_first() -> None:
    facts = replace(QUIET, hypervisor=True, turbo=True, activity=busy(1.0))
    assert [source.name for source in judge(facts, HARDWARE)] == ["other processes", "turbo", "hypervisor"]
