"""How near a row comes to the machine's ceilings."""

from __future__ import annotations

import pytest

from tests.measure.test_roofline import ceiling
from tests.results.made import CELL, info, prepared, rounds, timed
from vggbench.measure.roofline import Ceiling
from vggbench.report.markdown import summary
from vggbench.results.columns import Row
from vggbench.results.rows import derive_rows

CEILINGS = (ceiling(2e9), ceiling(4e9, "bf16"), ceiling(1e9, "", "bandwidth"))


def row_with(*ceilings: Ceiling) -> Row:
    (row,) = derive_rows(info(CELL, ceilings=ceilings), rounds(CELL, [2.0] * 6))
    return row


def test_a_row_says_what_would_be_attainable() -> None:
    row = row_with(*CEILINGS)
    works = prepared(CELL).works
    seconds = sum(max(2 * 2 * macs / 2e9, 4 * weights / 1e9) for macs, weights in works)
    assert row.attainable_ms == pytest.approx(seconds * 1e3, rel=0.2)  # without the images' own way
    assert row.attainable_ms is not None
    assert row.percent_of_attainable == pytest.approx(100 * row.attainable_ms / 2.0)
    assert (row.ceiling_gflop_s, row.ceiling_gb_s) == (2, 1)
    assert row.bound_by in {"compute", "bandwidth"}


def test_the_fastest_of_start_and_end_counts() -> None:
    assert row_with(*CEILINGS, ceiling(3e9)).ceiling_gflop_s == 3


@pytest.mark.parametrize("measured", [(), CEILINGS[1:], CEILINGS[:2]])
def test_without_its_ceilings_a_row_has_its_intensity_alone(measured: tuple[Ceiling, ...]) -> None:
    row = row_with(*measured)
    assert row.flops_per_byte is not None
    assert (row.attainable_ms, row.percent_of_attainable, row.bound_by) == (None, None, None)


def test_the_summary_names_the_ceilings_with_their_spread() -> None:
    run = info(CELL, ceilings=CEILINGS)
    text = summary(run, derive_rows(run, rounds(CELL, [2.0] * 6)))
    assert "Ceilings measured at start and end: fp32 gemm in torch 2 GFLOP/s (2 to 2); bf16 gemm in torch 4" in text
    assert "gemm in torch 1 GB/s" in text


def test_more_requests_at_work_than_were_sent_are_a_finding() -> None:
    quick = [timed(CELL, number, 2.0, window_ms=8.0) for number in range(6)]  # 20 images: 2500 images/s
    (row,) = derive_rows(info(CELL), quick)
    assert row.status == "noisy"
    assert "throughput x latency means 2.50 requests in flight where 2 were sent" in (row.reasons or "")


def test_as_many_at_work_as_were_sent_are_none() -> None:
    fitting = [timed(CELL, number, 2.0, window_ms=10.0) for number in range(6)]
    (row,) = derive_rows(info(CELL), fitting)
    assert (row.status, row.reasons) == ("ok", None)
