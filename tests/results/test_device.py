from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import fake_cell
from tests.results.made import block, info, record, session
from vggbench.measure.records import RoundRecord
from vggbench.results.device import device_columns, exposure_findings
from vggbench.results.rows import derive_rows

CELL = fake_cell()


def on_gpu(
    number: int, *, enqueue_ms: float = 0.2, copy_ms: float = 0.1, exposed: int = 0, **memory: Any
) -> RoundRecord:
    computes = [
        replace(block("compute", *[1.0 + number] * 4), enqueue_ns=(round(enqueue_ms * 1e6),) * 4, exposed=exposed)
        for _ in range(3)
    ]
    others = block("host", 1.5), block("copy_in", copy_ms), block("copy_out", copy_ms / 2)
    return replace(record(CELL, number, session(CELL, *computes, *others, timeline="cuda")), **memory)


def test_a_row_of_a_cpu_has_none_of_them():
    assert set(device_columns([record(CELL, 0, session(CELL, block("compute", 1.0)))], 1.0).values()) == {None}
    assert set(device_columns([], None).values()) == {None}


def test_every_figure_is_over_rounds():
    rounds = [on_gpu(0, enqueue_ms=0.1), on_gpu(1, enqueue_ms=0.3)]
    found = device_columns(rounds, 1.5)
    assert {name: pytest.approx(found[name]) for name in ("host_latency_ms", "enqueue_ms", "copy_in_ms")} == {
        "host_latency_ms": 1.5,
        "enqueue_ms": 0.2,
        "copy_in_ms": 0.1,
    }
    assert found["copy_out_ms"] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("enqueue_ms", "copy_ms", "label"),
    [(0.2, 0.1, "gpu-bound"), (1.2, 0.1, "launch-bound"), (0.2, 0.8, "copy-bound"), (1.3, 0.9, "copy-bound")],
)
def test_the_longest_part_holds_a_row_back(enqueue_ms: float, copy_ms: float, label: str):
    found = device_columns([on_gpu(0, enqueue_ms=enqueue_ms, copy_ms=copy_ms)], 1.0)
    assert found["held_back_by"] == label


def test_the_most_memory_of_any_round():
    found = device_columns([on_gpu(0, device_memory_bytes=5 << 20), on_gpu(1, device_memory_bytes=7 << 20)], 1.0)
    assert (found["device_memory_mib"], found["device_allocated_mib"]) == (7, None)


def test_requests_that_could_not_be_enqueued_in_time_are_told():
    assert exposure_findings([on_gpu(0)]) == []
    (finding,) = exposure_findings([on_gpu(0, exposed=1)])
    assert finding.status == "unsteady"
    assert finding.reason.startswith("3 of 12 requests had begun before they were enqueued")


def test_a_row_says_whose_clock_it_was_and_no_driver_on_a_cpu():
    there = info(CELL, rounds=1, environment={"system": {"driver": "580.65"}, "libraries": {}})
    (row,) = derive_rows(there, [on_gpu(0)])
    assert (row.timing, row.driver) == ("cuda", None)
