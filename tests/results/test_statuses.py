"""Every status has its meaning on the page, and a row that gets it."""

from __future__ import annotations

import os
import re
from dataclasses import replace

import pytest

from tests.fakes import fake_cell
from tests.meta.repository import ROOT
from tests.results.made import CELL, block, conditions, disturbed, evidence, failed_parity, info, record, session
from vggbench.measure.gpu_state import GpuState
from vggbench.measure.records import Failure, InputRecord, RoundRecord
from vggbench.measure.validity import STATUSES
from vggbench.plan import Cell
from vggbench.results.columns import Row
from vggbench.results.rows import derive_rows
from vggbench.results.statuses import MEANINGS, status_dictionary

README = ROOT / "reports" / "README.md"
BEGIN, END = "<!-- statuses: begin -->\n", "<!-- statuses: end -->\n"


def row_of(records: list[RoundRecord], cell: Cell = CELL) -> Row:
    (row,) = derive_rows(info(cell), records)
    return row


def six(**changes) -> list[RoundRecord]:
    found = session(CELL, block("warmup", 1.0, stop_reason="steady"), block("compute", 1.0), **changes)
    return [record(CELL, number, found) for number in range(6)]


def ended(status: str) -> list[RoundRecord]:
    return [record(CELL, 0, failure=Failure(stage="open", status=status, reason="it did"))]


def hot(power_mhz: int) -> GpuState:
    return GpuState(
        sm_clock_mhz=power_mhz, memory_clock_mhz=2619, power_w=699.0, temperature_c=70, slowdowns=("power cap",)
    )


def at(*times: float) -> list[RoundRecord]:
    return [record(CELL, number, session(CELL, block("compute", time))) for number, time in enumerate(times)]


UNSETTLED = [
    record(CELL, number, session(CELL, block("warmup", 1.0, stop_reason="limit"), block("compute", 1.0)))
    for number in range(6)
]

# A status's name, records that lead to it, and words of the reason: what was seen, and what to do.
CASES = [
    ("ok", six(), ""),
    ("failed", ended("failed"), "it did"),
    ("failed", six(inputs=InputRecord(batches=8, different=1, buffers=8)), "1 different contents in 8 buffers"),
    ("failed", six(inputs=InputRecord(batches=8, different=8, buffers=1)), "8 different contents in 1 buffers"),
    ("timeout", ended("timeout"), "it did"),
    ("parity_failed", [record(CELL, 0, session(CELL, parity=failed_parity()))], "0.5 of the signal"),
    ("precision_mismatch", six(evidence=evidence(CELL, layers=())), "covers 0% of the MACs"),
    (
        "precision_mismatch",
        six(evidence=evidence(CELL, flags={"cuda_conv_fp32_precision": "True"})),
        "cuda_conv_fp32_precision",
    ),
    ("fallback", six(evidence=evidence(CELL, placements={"fake": 1, "other": 4})), "`vggbench doctor` says"),
    ("throttled", disturbed(throttled_s=0.1), "stopped the worker for 5 % of its time (let pass: 1 %); raise"),
    ("throttled", disturbed(2600.0, 2600.0, 2400.0), "the clock moved by 8 % between blocks (let pass: 5 %); fix"),
    ("throttled", disturbed(gpu=hot(1900)), "held its clocks down: power cap (6 of 6 blocks); cool it"),
    ("contended", disturbed(busy_s=2.0), "other processes had 24 % of the worker's CPU time (let pass: 3 %); end"),
    ("contended", disturbed(steal_s=0.03), "gave 1.5 % of the worker's CPU time to other guests (let pass: 1 %)"),
    (
        "contended",
        disturbed(busy_s=None, involuntary_switches=200),
        "give way 100 times a second on each CPU (let pass: 50); end",
    ),
    ("unsteady", UNSETTLED, "6 of 6 warm-ups were not seen to get steady; give --time-budget-s more"),
    ("bimodal", at(10.0, 13.0, 10.02, 10.05, 13.02, 9.98), "2 of 6 launches are slower than the others, which lie 29"),
    ("drifting", at(10.0, 10.05, 10.1, 10.15, 10.2, 10.25), "launches near in time are alike (rank von Neumann ratio"),
    ("noisy", at(10.0, 11.6, 10.6, 12.0, 11.2, 10.3), "latency is known to ±9 % only"),
]


@pytest.mark.parametrize(("status", "records", "words"), CASES)
def test_a_status_is_reached_with_what_was_seen_and_what_to_do(status: str, records: list[RoundRecord], words: str):
    row = row_of(records)
    assert row.status == status
    assert words in (row.reasons or "")


def test_a_cell_that_is_not_run_is_unsupported():
    assert row_of([], fake_cell(unsupported="no bf16 here")).status == "unsupported"


def test_every_status_is_reached_or_another_tests():
    assert {status for status, *_ in CASES} == set(STATUSES) - {"unsupported"}


@pytest.mark.parametrize(("status", "records", "words"), CASES)
def test_a_status_takes_no_figure_away(status: str, records: list[RoundRecord], words: str):
    timed = any(found.sessions and found.sessions[0].samples("compute") for found in records)
    assert (row_of(records).latency_ms is not None) == timed


JUST_LET_PASS = [
    disturbed(busy_s=1.5 + 0.02 + 0.0599),
    disturbed(steal_s=0.0199),
    disturbed(throttled_s=0.0199),
    disturbed(involuntary_switches=100),
    disturbed(2600.0, 2471.0),
]


def test_threads_that_give_way_to_each_other_are_not_disturbed():
    """OpenVINO has a thread that waits beside those that compute: of a short request each CPU gets the other's."""
    at_rest = 1.5 + 0.02
    assert row_of(disturbed(busy_s=at_rest, involuntary_switches=1000)).status == "ok"
    assert row_of(disturbed(busy_s=at_rest + 0.03, involuntary_switches=1000)).status == "contended"
    assert row_of(disturbed(busy_s=at_rest, steal_s=0.019, involuntary_switches=1000)).status == "ok"


@pytest.mark.parametrize("records", JUST_LET_PASS)
def test_what_is_within_its_limit_is_let_pass(records: list[RoundRecord]):
    assert row_of(records).status == "ok"


def test_the_cpu_time_of_the_vggbench_that_waits_is_not_others():
    assert row_of(disturbed(busy_s=2.0, parent_cpu_s=0.5)).status == "ok"


def test_a_disturbed_warm_up_is_nobodys():
    found = conditions(busy_s=2.0)
    warm = [replace(block("warmup", 1.0, stop_reason="steady"), conditions=found), block("compute", 1.0)]
    assert row_of([record(CELL, number, session(CELL, *warm)) for number in range(6)]).status == "ok"


@pytest.mark.parametrize("changes", [{"wall_s": 0.08}, {"cpus": 0}])
def test_less_than_a_second_of_cpu_time_is_not_judged(changes):
    row = row_of(disturbed(busy_s=0.2, own_cpu_s=0.1, **changes))
    assert (row.status, row.other_cpu_percent) == ("ok", None)


def test_the_row_has_the_conditions_in_its_columns():
    row = row_of(disturbed(2600.0, 2500.0, steal_s=0.01, throttled_s=0.002, involuntary_switches=10))
    assert row.other_cpu_percent == pytest.approx(1.0)
    assert row.steal_percent == pytest.approx(0.5)
    assert row.throttled_ms == pytest.approx(12)
    assert row.switches_per_s == pytest.approx(5)
    assert row.clock_mhz == 2550.0
    assert row.clock_moved_percent == pytest.approx(100 / 26)


def test_a_gpus_clock_stands_for_the_processors():
    assert row_of(disturbed(gpu=hot(1900))).clock_mhz == 1900


def test_what_no_system_told_is_empty():
    row = row_of(six())
    told = (row.other_cpu_percent, row.steal_percent, row.throttled_ms, row.switches_per_s, row.clock_mhz)
    assert told == (None,) * 5


@pytest.mark.parametrize(
    ("masks", "shown"), [([(0, 2)] * 6, "0 2"), ([(0,)] * 5 + [(1,)], None), ([None] * 6, None), ([()] * 6, None)]
)
def test_the_cpus_that_every_session_was_kept_to(masks: list, shown: str | None):
    records = [
        record(CELL, number, session(CELL, block("compute", 1.0), pinned_cpus=mask))
        for number, mask in enumerate(masks)
    ]
    assert row_of(records).pinned_cpus == shown


def test_every_status_has_a_meaning_in_the_order_of_gravity():
    assert tuple(MEANINGS) == STATUSES


def test_reports_readme_has_the_statuses():
    text = README.read_text()
    before, found, after = re.split(f"{re.escape(BEGIN)}|{re.escape(END)}", text)
    if os.environ.get("VGGBENCH_WRITE_GOLDENS"):
        README.write_text(f"{before}{BEGIN}{status_dictionary()}{END}{after}")
    else:
        assert found == status_dictionary()
