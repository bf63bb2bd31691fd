"""Profiling a session: whose clock, which requests, and what is no profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes import InlineWorker, fake_cell, fake_request
from vggbench.backends.base import LayerTime
from vggbench.backends.fake import FakeSession
from vggbench.measure.profiling import MOST_REQUESTS, Profile, enough_requests
from vggbench.measure.rounds import profile_round
from vggbench.measure.worker import Worker

NAMES = ["features.0", "features.3", "classifier.0", "classifier.3", "classifier.6"]


def layer(*samples_ns: int) -> LayerTime:
    return LayerTime(name="a", operation="b", macs=1, weights=1, samples_ns=samples_ns)


@pytest.mark.parametrize("samples", [(), (0,), (-1, 5)])
def test_requests_that_took_no_time_are_no_profile(samples: tuple[int, ...]):
    with pytest.raises(ValueError, match="no time"):
        Profile(samples_ns=samples, layers=())


@pytest.mark.parametrize("samples", [(), (1,), (1, 2, 3), (1, -1)])
def test_a_layer_has_one_time_for_each_request(samples: tuple[int, ...]):
    with pytest.raises(ValueError, match="not one time for each of 2 requests"):
        Profile(samples_ns=(5, 5), layers=(layer(*samples),))


@pytest.mark.parametrize(
    ("samples_ns", "requests"), [([100_000_000], 30), ([10**10], 5), ([1000], MOST_REQUESTS), ([0], MOST_REQUESTS)]
)
def test_requests_fill_three_seconds_within_limits(samples_ns: list[int], requests: int):
    assert enough_requests(samples_ns) == requests


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vggbench.measure.rounds.WorkerClient", InlineWorker)


def test_a_round_times_and_then_profiles_in_a_verified_session(fake_exports: Path):
    record, profile = profile_round(fake_request(fake_cell(latency_ms="5"), fake_exports), 7)
    assert record.failure is None
    plain, profiled = record.sessions
    assert [block.kind for block in plain.blocks] == ["warmup", "compute"]
    assert profiled.blocks == ()
    assert plain.parity.passed
    assert profiled.parity.passed
    assert profile is not None
    assert profile.samples_ns == (5_000_000,) * 7
    assert [time.name for time in profile.layers] == NAMES
    assert 4_400_000 < sum(time.samples_ns[0] for time in profile.layers) <= 4_500_000


def test_without_a_number_the_plain_requests_give_one(inline: None, fake_exports: Path):
    _record, profile = profile_round(fake_request(fake_cell(latency_ms="100"), fake_exports), None)
    assert profile is not None
    assert len(profile.samples_ns) == 30


def test_the_newest_requests_count_where_a_profiler_makes_more(
    inline: None, fake_exports: Path, monkeypatch: pytest.MonkeyPatch
):
    def warmed_up(self: FakeSession, run: Any, requests: int) -> tuple[LayerTime, ...]:
        for _ in range(1 + requests):
            run()
        return ()

    monkeypatch.setattr(FakeSession, "layer_times", warmed_up)
    _record, profile = profile_round(fake_request(fake_cell(), fake_exports), 6)
    assert profile is not None
    assert len(profile.samples_ns) == 6


@pytest.mark.parametrize("fault", ["wrong", "open"])
def test_what_fails_before_it_is_profiled_has_no_profile(inline: None, fake_exports: Path, fault: str):
    record, profile = profile_round(fake_request(fake_cell(fault=fault), fake_exports), 5)
    assert profile is None
    assert (record.failure is not None) == (fault == "open")


def test_a_session_that_is_wrong_once_it_is_profiled_has_no_profile(
    inline: None, fake_exports: Path, monkeypatch: pytest.MonkeyPatch
):
    def damage(self: FakeSession) -> None:
        self._fault = "wrong"

    monkeypatch.setattr(FakeSession, "start_profiling", damage)
    record, profile = profile_round(fake_request(fake_cell(), fake_exports), 5)
    assert profile is None
    assert [session.parity.passed for session in record.sessions] == [True, False]


def test_a_profile_that_is_none_is_not_believed(inline: None, fake_exports: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FakeSession, "layer_times", lambda self, run, requests: (run(), (layer(1, 2),))[1])
    record, profile = profile_round(fake_request(fake_cell(), fake_exports), 5)
    assert profile is None
    assert record.failure is not None
    assert record.failure.stage == "profile"


def test_profiling_needs_an_open_session():
    with pytest.raises(RuntimeError, match="no session is open"):
        Worker().start_profiling()
    with pytest.raises(RuntimeError, match="no session is open"):
        Worker().profile(requests=5)
