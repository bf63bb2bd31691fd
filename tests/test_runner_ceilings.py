"""The machine's ceilings, measured around the rounds of a run."""

from __future__ import annotations

import pytest

from tests.fakes import fake_cell, fake_plan
from tests.measure.test_roofline import ceiling
from tests.running import TWO, Watcher, made, start
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
