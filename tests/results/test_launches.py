"""A row whose rounds are not alike says so: two modes, or a level that moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.results.made import CELL, block, failed_parity, info, record, session
from vggbench.measure.records import Failure, RoundRecord
from vggbench.results.columns import Row
from vggbench.results.rows import derive_rows

FEW, MANY = 12, 20


def row_of(records: Sequence[RoundRecord]) -> Row:
    (row,) = derive_rows(info(CELL, rounds=len(records)), records)
    return row


def rounds(levels_ms: Sequence[float], *, within: Sequence[float] = (1, 1, 1), samples: int = 20) -> list[RoundRecord]:
    """Return rounds at these levels, whose blocks stand to them as `within` says."""
    draw = np.random.default_rng(1)
    found = []
    for number, level in enumerate(levels_ms):
        blocks = [level * factor * np.exp(draw.normal(0, 0.01, samples)) for factor in within]
        found.append(record(CELL, number, session(CELL, *(block("compute", *times) for times in blocks))))
    return found


def alike(count: int) -> np.ndarray:
    return 10 * np.exp(np.random.default_rng(2).normal(0, 0.02, count))


def test_rounds_that_are_alike_are_ok():
    row = row_of(rounds(alike(MANY)))
    assert (row.status, row.reasons) == ("ok", None)


def test_two_modes_of_the_rounds():
    slow = np.isin(np.arange(FEW), (1, 4, 5, 10))
    row = row_of(rounds(alike(FEW) * np.where(slow, 1.3, 1)))
    assert row.status == "bimodal"
    assert row.reasons.startswith("4 of 12 launches are slower than the others, which lie 33.0% apart; ")
    remedy = "the interval may hold neither mode: look at the rounds in samples.parquet and give 12 to 20 --rounds"
    assert f"; {remedy}; " in row.reasons
    assert row.reasons.endswith("give more --rounds, or measure on a quieter machine")  # it is noisy, too
    assert row.latency_ms is not None
    assert row.latency_low_ms is not None


def test_a_level_that_drifts_from_round_to_round():
    row = row_of(rounds(alike(MANY) * np.linspace(1, 1.3, MANY)))
    assert row.status == "drifting"
    assert row.reasons.startswith("launches near in time are alike (rank von Neumann ratio 0.")
    assert row.reasons.endswith("; the interval may not hold: measure on a quieter machine")


def test_a_level_that_moves_while_a_round_lasts():
    row = row_of(rounds(alike(6), within=(1, 1.05, 1.12)))
    assert row.status == "drifting"
    assert "the level moves while a launch runs" in row.reasons
    assert row.reasons.endswith("measure on a quieter machine and give 12 to 20 --rounds")


def test_what_moves_within_a_round_is_not_seen_in_blocks_that_are_too_short():
    assert row_of(rounds(alike(6), within=(1, 1.05, 1.12), samples=7)).status == "ok"
    assert row_of(rounds(alike(6), within=(1, 1.05, 1.12), samples=8)).status == "drifting"


def test_rounds_that_failed_are_no_launches():
    levels = alike(FEW) * np.where(np.arange(FEW) == 3, 2.0, 1)
    assert row_of(rounds(levels)).status == "bimodal"
    records = rounds(levels)
    failure = Failure(stage="block", status="timeout", reason="no answer within 600 s")
    records[3] = record(CELL, 3, *records[3].sessions, failure=failure)
    row = row_of(records)
    assert (row.status, row.reasons) == ("timeout", "round 4 at block: no answer within 600 s")


def test_the_graver_finding_is_the_status_and_both_are_said():
    levels = alike(FEW) * np.where(np.arange(FEW) < 6, 1.4, 1) * np.linspace(1.1, 1, FEW)
    row = row_of(rounds(levels))
    assert row.status == "bimodal"
    assert "6 of 12 launches are faster than the others" in row.reasons
    assert "launches near in time are alike" in row.reasons
    parity = [record(CELL, number, session(CELL, parity=failed_parity())) for number in range(1)]
    assert row_of(parity).status == "parity_failed"


@pytest.mark.parametrize("count", [1, 2])
def test_a_few_rounds_tell_nothing(count: int):
    assert row_of(rounds([1.0, 2.0][:count])).status == "ok"
