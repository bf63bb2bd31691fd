"""What is measured around the rounds of a run: the machine's ceilings, and how many requests in flight pay."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes import fake_cell, fake_plan
from tests.measure.test_roofline import ceiling
from tests.running import TWO, Watcher, made, start, stopped_after
from vggbench.errors import Interrupted
from vggbench.measure.records import RoundRecord
from vggbench.measure.request import RoundRequest
from vggbench.measure.saturation import TriedRate
from vggbench.results.run_info import read_run_info
from vggbench.runner import Places, plan_ceilings, resume_run


def test_ceilings_are_measured_before_and_after_the_rounds(places: Places, still_environment: None) -> None:
    watcher, rates = Watcher(), iter([2e9, 3e9])
    heard = watcher.heard
    gauge = lambda plan: (ceiling(next(rates)),)  # noqa: E731 - three words
    start(fake_plan(*TWO), places, observer=watcher, execute=made, gauge=gauge)
    kinds = [item[0] for item in heard if item[0] != "preparing"]
    assert kinds == ["gauging", "measuring", "measured", "measuring", "measured", "gauging"]
    assert [found.rate for found in read_run_info(places.folder).ceilings] == [2e9, 3e9]


def test_what_is_finished_is_not_gauged_again(places: Places, still_environment: None) -> None:
    start(fake_plan(*TWO), places, execute=made)
    resume_run(places, execute=made, gauge=lambda plan: pytest.fail("there is nothing left to measure"))


def test_scripted_backends_have_no_ceilings() -> None:
    assert plan_ceilings(fake_plan(*TWO)) == []


def test_the_ceilings_are_those_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.setattr("vggbench.runner.measure_ceilings", lambda **wanted: asked.append(wanted) or [])
    real = fake_cell(backend="torch", precision="bf16")
    skipped = fake_cell(backend="torch", unsupported="there is none")
    plan_ceilings(fake_plan(*TWO, real, skipped))
    assert asked == [{"device": "cpu", "threads": 2, "precisions": ["bf16"]}]


def test_requests_in_flight_are_searched_once_a_cell_and_then_used(places: Places, still_environment: None) -> None:
    searched: list[str] = []
    asked: list[int] = []

    def search(request: RoundRequest) -> list[TriedRate]:
        searched.append(request.cell_id)
        return [TriedRate(1, 5.0), TriedRate(2, 5.01)]

    def execute(request: RoundRequest) -> RoundRecord:
        asked.append(request.in_flight)
        return made(request)

    with pytest.raises(Interrupted):
        start(fake_plan(*TWO, rounds=2), places, execute=stopped_after(1, []), search=search)
    rows = resume_run(places, execute=execute, search=search)
    assert searched == [cell.id for cell in TWO]
    assert asked == [1, 1, 1]
    assert {(row.requests_in_flight, row.in_flight_tried) for row in rows} == {(1, "1: 5, 2: 5.01")}


def test_a_plan_may_do_without_the_search(places: Places, still_environment: None) -> None:
    plan = replace(fake_plan(*TWO), search_in_flight=False)
    rows = start(plan, places, execute=made, search=lambda _request: pytest.fail("searched"))
    assert {(row.requests_in_flight, row.in_flight_tried) for row in rows} == {(2, None)}


def test_without_a_search_the_most_that_the_threads_allow_are_used(places: Places, still_environment: None) -> None:
    rows = start(fake_plan(*TWO), places, execute=made)
    assert {(row.requests_in_flight, row.in_flight_tried) for row in rows} == {(2, None)}
