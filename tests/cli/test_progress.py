"""How a run gets on: the live bar and the plain lines."""

from __future__ import annotations

import io
import re
import sys
import threading
import time

import pytest
from rich.console import Console
from rich.progress import Progress

from tests.fakes import fake_cell
from tests.results.made import CELL, failed_parity, record, session, timed
from vggbench.cli.progress import LiveBar, PlainLines, _Watch, outcome, progress
from vggbench.measure.records import Failure

FAILED = record(CELL, 0, failure=Failure(stage="open", status="timeout", reason="no answer within [600] s"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that says what its only item is."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (FAILED, "timeout at open: no answer within [600] s"),
        (record(CELL, 0, session(CELL, parity=failed_parity("it differs"))), "parity failed: it differs"),
        (record(CELL, 0, session(CELL)), "verified"),
        (timed(CELL, 0, 12.345), "12.3 ms"),
    ],
)
def test_what_a_round_found_in_a_few_words(made, words: str):
    assert outcome(made) == words


def test_the_time_left_follows_from_the_rounds_so_far(clock: list[float]):
    watch = _Watch()
    assert watch.left(0, 10) == ""
    clock[0] += 20
    assert watch.left(2, 10) == "about 80 s left"
    clock[0] += 60
    assert watch.left(4, 10) == "about 2 min left"
    assert watch.left(10, 10) == ""


def test_plain_lines(clock: list[float], capsys):
    lines = PlainLines()
    lines.preparing(CELL)
    clock[0] += 1000  # preparing is not measuring
    for done in range(2):
        lines.measuring(CELL, done, 2)
        clock[0] += 30
        lines.measured(CELL, timed(CELL, done, 1.0))
    assert capsys.readouterr().err.splitlines() == [
        f"preparing {CELL.title}",
        f"[1/2] {CELL.title}: 1 ms, about 30 s left",
        f"[2/2] {CELL.title}: 1 ms",
    ]


def test_elsewhere_than_on_a_terminal_it_is_plain_lines():
    with progress() as observer:
        assert isinstance(observer, PlainLines)


def test_on_a_terminal_it_is_a_bar_and_what_went_wrong_stays(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    cell = fake_cell(latency_ms="[/red]")
    with progress() as observer:
        assert isinstance(observer, LiveBar)
        observer.preparing(cell)
        observer.measuring(cell, 0, 2)
        observer.measured(cell, timed(cell, 0, 1.0))
        observer.measured(cell, FAILED)
    printed = capsys.readouterr()
    text = re.sub(r"\x1b\[[\d;?]*\w", "", printed.err)  # without colours and movements
    assert f"{cell.title}: timeout at open: no answer within [600] s" in text.splitlines()
    assert printed.out == ""


def test_the_bar_is_drawn_when_something_changes_and_by_no_thread_in_between(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    threads = threading.active_count()
    with progress() as observer:
        assert threading.active_count() == threads
        observer.preparing(CELL)
        assert f"preparing {CELL.title}" in capsys.readouterr().err
        observer.measuring(CELL, 0, 2)
        assert "0/2" in capsys.readouterr().err


def test_the_bar_shows_the_cell_in_hand_and_the_time_left(clock: list[float]):
    with Progress(console=Console(file=io.StringIO())) as live:
        bar = LiveBar(live)
        bar.measuring(CELL, 0, 4)
        clock[0] += 10
        bar.measuring(CELL, 1, 4)
        (task,) = live.tasks
    assert (task.description, task.completed, task.total) == (CELL.title, 1, 4)
    assert task.fields["left"] == "about 30 s left"
