"""A real worker process whose threads are looked at from outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.environment.recorded import plant
from tests.fakes import fake_cell, fake_request
from vggbench.environment.cpu import affinity, choose_cpus
from vggbench.measure.client import WorkerClient
from vggbench.measure.pinning import pin_process

CAN_PIN = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity masks")


def masks(pid: int) -> set[frozenset[int]]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {frozenset(os.sched_getaffinity(int(task.name))) for task in tasks}


@CAN_PIN
def test_every_thread_of_a_worker_is_kept_to_as_many_cpus_as_it_has_threads(fake_exports: Path):
    request = fake_request(fake_cell(threads=1), fake_exports)
    with WorkerClient(timeout_s=60.0) as worker:
        assert masks(worker.pid) == {affinity()}
        opened = worker.call("open", **request.opening(1))
        chosen = choose_cpus(affinity(), 1)
        assert tuple(opened["pinned_cpus"]) == chosen
        assert masks(worker.pid) == {frozenset(chosen)}


@CAN_PIN
def test_a_second_session_may_have_more_threads_than_the_first(fake_exports: Path):
    with WorkerClient(timeout_s=60.0) as worker:
        for threads in (1, min(2, len(affinity()))):
            request = fake_request(fake_cell(threads=threads), fake_exports)
            assert len(worker.call("open", **request.opening(1))["pinned_cpus"]) == threads


@CAN_PIN
def test_a_worker_may_be_asked_to_leave_its_threads_alone(fake_exports: Path):
    request = fake_request(fake_cell(threads=1), fake_exports)
    with WorkerClient(timeout_s=60.0) as worker:
        assert worker.call("open", **request.opening(1), pinned=False)["pinned_cpus"] is None
        assert masks(worker.pid) == {affinity()}


def test_a_system_without_masks_pins_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    assert pin_process(frozenset({0}), 1) is None


def test_a_container_that_forbids_it_pins_nothing(monkeypatch: pytest.MonkeyPatch):
    def forbidden(_process: int, _cpus: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", forbidden, raising=False)
    assert pin_process(frozenset({0}), 1) is None


def test_threads_that_end_meanwhile_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def gone(process: int, cpus: object) -> None:
        asked.append((process, cpus))
        if process:
            raise ProcessLookupError

    monkeypatch.setattr(os, "sched_setaffinity", gone, raising=False)
    plant(tmp_path, {"proc/self/task/17/status": ""})
    assert pin_process(frozenset({0, 1}), 1, tmp_path) == (1,)
    assert asked == [(0, (1,)), (17, (1,))]
