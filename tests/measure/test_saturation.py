"""How many requests in flight are worth having."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import InlineWorker, fake_cell, fake_request
from vggbench.backends.base import Compilation
from vggbench.backends.fake import FakeSession
from vggbench.measure import saturation
from vggbench.measure.saturation import TriedRate, candidates, most_productive, saturate


@pytest.mark.parametrize(
    ("most", "threads", "counts"),
    [(1, 1, [1]), (2, 2, [1, 2]), (4, 8, [1, 2, 4]), (3, 3, [1, 3]), (4, 4, [1, 2, 4]), (3, 6, [1, 2, 3])],
)
def test_doublings_that_share_the_threads(most: int, threads: int, counts: list[int]) -> None:
    assert candidates(most, threads) == counts


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ([], 9),
        ([(1, 10.0)], 1),
        ([(1, 10.0), (2, 15.0), (4, 15.1)], 2),  # 1 % more is not more
        ([(1, 10.0), (2, 9.0)], 1),
        ([(1, 10.0), (2, 15.0), (4, 20.0)], 4),
    ],
)
def test_the_fewest_that_no_doubling_beats(rates: list[tuple[int, float]], chosen: int) -> None:
    assert most_productive([TriedRate(*rate) for rate in rates], 9) == chosen


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saturation, "WorkerClient", InlineWorker)


def test_slots_that_do_not_wait_for_each_other_are_tried_to_the_last(inline: None, fake_exports: Path) -> None:
    tried = saturate(fake_request(fake_cell(threads=4), fake_exports))
    assert [rate.in_flight for rate in tried] == [1, 2, 4]
    assert tried[2].img_s == pytest.approx(4 * tried[0].img_s)


def test_what_a_trial_compiled_is_kept(inline: None, fake_exports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSession, "compilation", Compilation(seconds=30.0, cached=False))
    tried = saturate(fake_request(fake_cell(threads=2), fake_exports))
    assert [(rate.compile_s, rate.compile_cached) for rate in tried] == [(30.0, False)] * 2


def test_what_fails_ends_the_search(inline: None, fake_exports: Path) -> None:
    assert saturate(fake_request(fake_cell(fault="open"), fake_exports)) == []
