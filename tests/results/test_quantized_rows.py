"""What a row of a quantised network says: two errors, what it was calibrated with, and of which file."""

from __future__ import annotations

from dataclasses import replace

from tests.results.made import CELL, block, info, parity, record, session
from vggbench.artefacts.quantization import Calibration
from vggbench.plan import Cell
from vggbench.results.columns import Row
from vggbench.results.rows import derive_rows

SYNTHETIC = replace(CELL, precision="int8", export_options=Calibration().options)
PHOTOGRAPHS = Calibration(where="/photos", sha256="ab" * 32, images=20, method="percentile")


def row_of(cell: Cell, *costs: float | None) -> Row:
    made = [
        record(cell, number, session(cell, block("compute", 1.0, 1.0, 1.0), parity=parity(quantization_error=cost)))
        for number, cost in enumerate(costs)
    ]
    (row,) = derive_rows(info(cell, rounds=len(costs)), made)
    return row


def test_the_largest_cost_of_a_session_is_in_a_column_of_its_own():
    row = row_of(SYNTHETIC, 0.2, 0.3, 0.1)
    assert (row.quantization_error, row.parity_error) == (0.3, 1e-6)
    assert row.reference == "quantised file in float64"
    assert row_of(CELL, None).quantization_error is None


def test_synthetic_images_are_said_loudly_and_photographs_by_their_hash():
    synthetic, photographs = row_of(SYNTHETIC, 0.2), row_of(replace(SYNTHETIC, export_options=PHOTOGRAPHS.options), 0.2)
    assert "calibrated with SYNTHETIC images" in (synthetic.reasons or "")
    assert "SYNTHETIC" not in (photographs.reasons or "")
    assert photographs.export_options == (
        "calibration=images calibration_images=20 calibration_method=percentile calibration_sha256=abababababab"
    )
