"""Energy per image, from a counter that only grows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.results.made import CELL, info, rounds
from vggbench.measure.conditions import Conditions
from vggbench.measure.records import RoundRecord
from vggbench.results.columns import Row
from vggbench.results.rows import derive_rows


def observed(record: RoundRecord, energy_j: float | None, wall_s: float) -> RoundRecord:
    """Put the conditions onto the throughput block: 20 images in 40 ms."""
    latency, throughput = record.sessions
    (block,) = throughput.blocks
    seen = Conditions(wall_s=wall_s, cpus=2, own_cpu_s=wall_s, energy_j=energy_j)
    return replace(record, sessions=(latency, replace(throughput, blocks=(replace(block, conditions=seen),))))


def row_of(energy_j: float | None, *, wall_s: float = 2.0, idle_power_w: float | None = 50.0) -> Row:
    records = [observed(record, energy_j, wall_s) for record in rounds(CELL, [1.0] * 6)]
    (row,) = derive_rows(info(CELL, idle_power_w=idle_power_w), records)
    return row


def test_power_times_the_window_is_the_images() -> None:
    row = row_of(600.0)
    assert (row.power_w, row.idle_power_w, row.energy_note) == (300, 50, None)
    assert row.energy_j_per_image == pytest.approx(300 * 0.040 / 20)
    assert row.energy_above_idle_j_per_image == pytest.approx(250 * 0.040 / 20)


def test_a_device_that_idles_higher_than_it_works_costs_nothing_above() -> None:
    assert row_of(60.0).energy_above_idle_j_per_image == 0


def test_without_an_idle_baseline_the_whole_alone_is_known() -> None:
    row = row_of(600.0, idle_power_w=None)
    assert row.energy_j_per_image is not None
    assert row.energy_above_idle_j_per_image is None


@pytest.mark.parametrize(
    ("energy_j", "wall_s", "note"),
    [(None, 2.0, "cpu has no energy counter that can be read"), (600.0, 0.5, "windows under 1 s are too short")],
)
def test_where_it_is_empty_the_row_says_why(energy_j: float | None, wall_s: float, note: str) -> None:
    row = row_of(energy_j, wall_s=wall_s)
    assert (row.power_w, row.energy_j_per_image) == (None, None)
    assert (row.energy_note or "").startswith(note)
    assert row.status != "failed"


def test_a_row_without_a_measurement_says_nothing_of_energy() -> None:
    (row,) = derive_rows(info(CELL), [])
    assert row.energy_note is None
