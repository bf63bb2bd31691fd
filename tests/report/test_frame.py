from __future__ import annotations

import csv
import io
from dataclasses import fields

from tests.results.made import CELL, failed_parity, info, record, rounds, session
from vggbench.report.frame import frame, sample_frame, write_csv, write_parquet
from vggbench.results.columns import COLUMNS, Row
from vggbench.results.rows import derive_rows

RECORDS = rounds(CELL, [1.0, 1.25, 1.5, 1.75, 2.0, 1 / 3])
ROWS = derive_rows(info(CELL), RECORDS)


def csv_of(rows: list[Row]) -> str:
    file = io.BytesIO()
    write_csv(frame(rows), file)
    return file.getvalue().decode()


def test_the_columns_are_the_rows_in_their_order():
    table = frame(ROWS)
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 1


def test_types_keep_missing_apart_from_zero():
    table = frame([*ROWS, Row(variant="vgg16", rounds=0)])
    kinds = {"str": "string", "int": "Int64", "float": "Float64"}
    for column in fields(Row):
        assert str(table[column.name].dtype) == kinds[str(column.type).removesuffix(" | None")]
    assert table["latency_ms"].isna().tolist() == [False, True]
    assert table["rounds"].tolist() == [6, 0]


def test_an_empty_frame_has_its_columns():
    assert list(frame([]).columns) == list(COLUMNS)


def test_csv_has_every_digit_and_missing_is_empty():
    header, row = csv.reader(io.StringIO(csv_of(ROWS)))
    assert header == list(COLUMNS)
    values = dict(zip(header, row, strict=True))
    assert float(values["latency_ms"]) == ROWS[0].latency_ms
    assert values["rounds"] == "6"
    missing = {name for name in COLUMNS if getattr(ROWS[0], name) is None}
    assert "speedup" in missing
    assert {name for name, text in values.items() if text == ""} == missing


def test_csv_keeps_commas_quotes_and_lines_of_reasons():
    reason = 'a, "b"\nc'
    rows = derive_rows(info(CELL), [record(CELL, 0, session(CELL, parity=failed_parity(reason)))])
    _, row = csv.reader(io.StringIO(csv_of(rows), newline=""))
    assert row[list(COLUMNS).index("reasons")] == reason


def test_a_row_a_sample():
    table = sample_frame(RECORDS[:1])
    assert len(table) == 1 + 4 * 3 + 3 + 1
    first = table.iloc[0].to_dict()
    assert first == {
        "cell_id": CELL.id,
        "round": 0,
        "in_flight": 1,
        "block": 0,
        "kind": "warmup",
        "images": 2,
        "sample": 0,
        "duration_ns": 5_000_000,
    }
    assert table["duration_ns"].dtype == "int64"
    assert table[table["kind"] == "throughput"]["images"].tolist() == [20]


def test_samples_cross_parquet():
    import pandas as pd

    table = sample_frame(RECORDS)
    file = io.BytesIO()
    write_parquet(table, file)
    assert pd.read_parquet(io.BytesIO(file.getvalue())).equals(table)


def test_a_run_without_samples_has_an_empty_table():
    file = io.BytesIO()
    write_parquet(sample_frame([record(CELL, 0, session(CELL))]), file)
    assert file.getvalue()
