"""The numbers of a row that say how a request's latency is distributed, and how long a round warms up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.fakes import fake_cell
from tests.results.made import CELL, block, info, record, session
from vggbench.measure.records import RoundRecord
from vggbench.results.columns import Row
from vggbench.results.rows import derive_rows
from vggbench.stats import effective_sample_size, percentiles, samples_needed, spread

PERCENTILES = (50, 90, 95, 99)


def row_of(records: Sequence[RoundRecord]) -> Row:
    (row,) = derive_rows(info(CELL, rounds=len(records)), records)
    return row


def drawn(rounds: int, samples: int, seed: int = 1) -> list[np.ndarray]:
    """Return latencies (ms) of rounds of one backend: a round's level, and the requests about it."""
    draw = np.random.default_rng(seed)
    return [10 * np.exp(draw.normal(0, 0.02) + draw.normal(0, 0.05, samples)) for _ in range(rounds)]


def measured(*rounds: Sequence[float]) -> list[RoundRecord]:
    """Return rounds of two compute blocks."""
    blocks = [[block("compute", *half) for half in np.array_split(samples, 2)] for samples in rounds]
    return [record(CELL, number, session(CELL, *found)) for number, found in enumerate(blocks)]


def ends_of(row: Row, percent: int) -> tuple[float | None, float | None]:
    return getattr(row, f"latency_p{percent}_low_ms"), getattr(row, f"latency_p{percent}_high_ms")


def in_ns(samples: np.ndarray) -> np.ndarray:
    """Return the samples as the journal keeps them: whole nanoseconds, here in ms."""
    return np.round(samples * 1e6) / 1e6


def test_percentiles_and_their_intervals_are_over_rounds():
    rounds = drawn(8, 700)
    row = row_of(measured(*rounds))
    for found, percent in zip(percentiles([in_ns(samples) for samples in rounds]), PERCENTILES, strict=True):
        assert getattr(row, f"latency_p{percent}_ms") == pytest.approx(found.estimate)
        assert ends_of(row, percent) == pytest.approx((found.low, found.high))
    assert row.samples_needed is None
    assert (row.samples, row.samples_per_round) == (8 * 700, 700)


@pytest.mark.parametrize(
    ("samples", "missing"),
    [
        (10, "p50:11 p90:64 p95:130 p99:662"),
        (11, "p90:64 p95:130 p99:662"),
        (129, "p95:130 p99:662"),
        (130, "p99:662"),
        (661, "p99:662"),
        (662, None),
    ],
)
def test_a_percentile_without_an_interval_says_how_many_samples_it_needs(samples: int, missing: str | None):
    row = row_of(measured(*drawn(6, samples)))
    assert row.samples_needed == missing
    for percent in PERCENTILES:
        lacking = f"p{percent}:{samples_needed(percent / 100)}" in (missing or "")
        assert [end is None for end in ends_of(row, percent)] == [lacking] * 2


def test_a_percentile_of_all_samples_together_has_no_interval():
    row = row_of(measured(*drawn(6, 12)))
    together = np.concatenate([in_ns(samples) for samples in drawn(6, 12)])
    assert row.latency_p90_ms == pytest.approx(np.quantile(together, 0.9, method="median_unbiased"))
    assert ends_of(row, 90) == (None, None)
    assert (row.latency_p95_ms, row.latency_p99_ms) == (None, None)


def test_the_round_with_the_fewest_samples_decides():
    row = row_of(measured(*drawn(6, 700), [10.0] * 20))
    assert (row.samples_per_round, row.samples_needed) == (20, "p90:64 p95:130 p99:662")


def test_under_six_rounds_no_percentile_has_an_interval():
    row = row_of(measured(*drawn(5, 700)))
    assert {ends_of(row, percent) for percent in PERCENTILES} == {(None, None)}
    assert row.latency_p99_ms is not None
    assert (row.samples_needed, row.reasons) == (None, "no interval: 5 rounds, 6 are needed")


def test_spread_between_rounds_and_within_one():
    rounds = [in_ns(samples) for samples in drawn(20, 100)]
    row = row_of(measured(*rounds))
    found = spread(rounds)
    assert row.between_rounds_percent == pytest.approx(100 * found.between)
    assert row.within_round_percent == pytest.approx(100 * found.within)
    assert 1 < row.between_rounds_percent < 4 < row.within_round_percent < 7


def test_one_round_has_no_spread_between_rounds():
    row = row_of(measured(drawn(1, 50)[0]))
    assert row.between_rounds_percent is None
    assert row.within_round_percent > 0


def test_mean_and_extremes_are_of_all_samples():
    row = row_of(measured([1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 2.0, 16.0]))
    assert (row.latency_mean_ms, row.latency_min_ms, row.latency_max_ms) == (4.0, 1.0, 16.0)


def test_the_effective_samples_are_of_the_whole_series():
    rounds = [in_ns(samples) for samples in drawn(6, 100)]
    apart = [level * samples for level, samples in zip((1, 1.5, 1, 1, 1.5, 1), rounds, strict=True)]
    assert row_of(measured(*rounds)).effective_samples == pytest.approx(effective_sample_size(np.concatenate(rounds)))
    assert row_of(measured(*apart)).effective_samples < 20  # of 600: what a round has in common counts once


def test_the_series_is_in_the_order_of_time():
    first, second, third = measured([1.0] * 40, [1.0] * 40, [2.0] * 40)
    late = replace(first, started_at="2026-01-02T03:09:05+00:00")  # a round that failed, and was made again at the end
    moved = [replace(third, round=0), replace(second, round=1), replace(late, round=2)]
    in_time = np.repeat([1.0, 2.0, 1.0], 40)
    assert row_of([second, third, late]).effective_samples == pytest.approx(effective_sample_size(in_time))
    assert row_of(moved).effective_samples == pytest.approx(effective_sample_size(np.repeat([2.0, 1.0, 1.0], 40)))


def test_how_long_rounds_warm_up():
    lengths = [[1.0] * 8, [1.0] * 10, [2.0] * 30]
    records = [
        record(CELL, number, session(CELL, block("warmup", *samples, stop_reason="steady"), block("compute", 1.0)))
        for number, samples in enumerate(lengths)
    ]
    row = row_of(records)
    assert (row.warmup, row.warmup_requests, row.warmup_ms) == ("3/3", 10, 10)
    without = row_of(measured([1.0] * 4))
    assert (without.warmup, without.warmup_requests, without.warmup_ms) == (None, None, None)


def test_a_request_that_was_faster_than_the_clock_counts_as_a_nanosecond():
    row = row_of(measured([0.0] * 40, [0.0] * 40))
    assert (row.latency_ms, row.latency_min_ms, row.latency_p50_ms) == pytest.approx((1e-6, 1e-6, 1e-6))
    assert row.status == "ok"


def test_rounds_without_samples_have_no_figures():
    row = row_of([record(CELL, 0, session(CELL))])
    assert (row.samples, row.latency_mean_ms, row.effective_samples, row.samples_needed) == (None,) * 4


def test_a_hundred_rows_are_derived_at_once():
    """A run is derived while somebody waits: 100 rows of 6 rounds in under 2 s, here with room for a busy machine."""
    cells = [fake_cell(batch_size=size) for size in range(1, 101)]
    blocks = [block("compute", *samples) for samples in drawn(3, 20)]
    records = [record(cell, number, session(cell, *blocks)) for cell in cells for number in range(6)]
    start = time.process_time()
    derive_rows(info(*cells), records)
    assert time.process_time() - start < 6
