"""How many rounds, and how many seconds, an interval took to get narrow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.meta.repository import benchmark
from tests.results.made import CELL, block, info, record, rounds, session
from vggbench.measure.records import Failure, RoundRecord
from vggbench.results.journal import JOURNAL_NAME, Journal
from vggbench.results.run_info import write_run_info
from vggbench.stats import hodges_lehmann, signed_rank_interval

script = benchmark("time_to_interval")

LEVELS = [1000 * factor for factor in np.exp(np.random.default_rng(3).normal(0, 0.03, 30))]


def measured(levels_ms: list[float]) -> list[RoundRecord]:
    """Return rounds of 3.5 s, of which two samples are timed."""
    return [
        record(CELL, number, session(CELL, block("compute", level, level))) for number, level in enumerate(levels_ms)
    ]


def half_width(levels: list[float]) -> float:
    low, high = signed_rank_interval(levels)
    middle = hodges_lehmann(levels)
    return 100 * max(high - middle, middle - low) / middle


def stored(folder: Path, records: list[RoundRecord]) -> str:
    write_run_info(folder, info(CELL, rounds=max(len(records), 1)))
    journal = Journal(folder / JOURNAL_NAME)
    for found in records:
        journal.append(found)
    return str(folder)


def test_the_first_rounds_whose_interval_is_narrow_enough_and_what_they_took(tmp_path: Path, capsys):
    needed = next(count for count in range(6, 31) if half_width(LEVELS[:count]) <= 2)
    assert 6 < needed < 30
    assert script.main([stored(tmp_path, measured(LEVELS))]) == 0
    *_, line = capsys.readouterr().out.splitlines()
    cell = "custom fake fault=none fp32 batch 2"
    took, timed = f"{3.5 * needed:.0f}", f"{2 * sum(LEVELS[:needed]) / 1e3:.0f}"
    assert line == f"| {cell} | {needed} | {took} | {timed} | {half_width(LEVELS):.2f} (30) |"


def test_an_interval_that_never_got_narrow_took_longer_than_the_run(tmp_path: Path, capsys):
    assert script.main([stored(tmp_path, measured(LEVELS)), "--percent", "0.01"]) == 0
    heading, _, line = capsys.readouterr().out.splitlines()
    assert "rounds to ±0.01 %" in heading
    assert "| more than 30 | more than 105 |" in line


def test_rounds_that_failed_do_not_count(tmp_path: Path):
    records = measured(LEVELS)
    failure = Failure(stage="block", status="timeout", reason="no answer")
    (with_failure,) = script.courses_of(info(CELL), [replace(records[0], failure=failure), *records[1:]])
    (without,) = script.courses_of(info(CELL), records[1:])
    assert with_failure == without
    assert len(without.seconds) == 29


def test_rounds_count_in_the_order_in_which_they_were_measured():
    records = measured(LEVELS)
    assert script.courses_of(info(CELL), records[::-1]) == script.courses_of(info(CELL), records)


@pytest.mark.parametrize("count", [0, 5])
def test_too_few_rounds_are_nothing_to_judge(tmp_path: Path, capsys, count: int):
    assert script.main([stored(tmp_path, rounds(CELL, [1.0] * count))]) == 4
    expected = "error: no cell has rounds enough for an interval; make a run with --rounds 40\n"
    assert capsys.readouterr().err == expected


def test_where_there_is_no_run(tmp_path: Path, capsys):
    assert script.main([str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
