from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggbench.measure.validity import STATUSES, is_of_what_was_asked
from vggbench.report.table import HEADINGS, best_first, row_title, significant, table_cells, with_interval
from vggbench.results.columns import Row


def made(**changes: Any) -> Row:
    values: dict[str, Any] = {
        "variant": "vgg16",
        "backend": "torch",
        "options": "memory_format=contiguous",
        "precision": "fp32",
        "batch_size": 1,
        "status": "ok",
        "latency_ms": 10.0,
    }
    return Row(**{**values, **changes})


def backends(rows: list[Row]) -> list[str | None]:
    return [row.backend for row in rows]


def test_a_replica_is_named_beside_its_backend():
    assert table_cells(made(replica=2))[1].endswith(" replica=2")


def test_the_fastest_an_image_comes_first():
    rows = [made(backend="a"), made(backend="b", latency_ms=3.0), made(backend="c", latency_ms=16.0, batch_size=8)]
    assert backends(best_first(rows)) == ["c", "b", "a"]


@pytest.mark.parametrize("status", [status for status in STATUSES if not is_of_what_was_asked(status)])
def test_a_time_of_something_else_comes_after_all_others(status: str):
    rows = [made(backend="fast", latency_ms=0.1, status=status), made(backend="slow")]
    assert backends(best_first(rows)) == ["slow", "fast"]


@pytest.mark.parametrize("status", [status for status in STATUSES if is_of_what_was_asked(status)])
def test_a_noisy_time_keeps_its_place(status: str):
    rows = [made(backend="slow"), made(backend="fast", latency_ms=0.1, status=status)]
    assert backends(best_first(rows)) == ["fast", "slow"]


def test_rows_without_a_time_come_last_the_gravest_at_the_end():
    rows = [
        made(backend="failed", status="failed", latency_ms=None),
        made(backend="unsupported", status="unsupported", latency_ms=None),
        made(backend="fallback", status="fallback"),
        made(backend="ok"),
    ]
    assert backends(best_first(rows)) == ["ok", "fallback", "unsupported", "failed"]


def test_models_are_not_mixed():
    fast, slow = made(variant="vgg11", latency_ms=1.0), made(variant="vgg11", latency_ms=9.0)
    other = made(variant="vgg19", latency_ms=5.0)
    assert best_first([other, slow, fast]) == [fast, slow, other]
    one, two = made(variant="custom", configuration="8,M"), made(variant="custom", configuration="16,M")
    assert best_first([one, two, one, two]) == [two, two, one, one]


def test_the_texts_of_a_row():
    row = made(
        backend="openvino",
        options=None,
        precision="bf16",
        batch_size=8,
        latency_ms=44.71,
        latency_low_ms=44.2,
        latency_high_ms=45.2,
        end_to_end_ms=45.678,
        throughput_img_s=180.123,
        speedup=3.456,
        parity_error=0.0123,
    )
    expected = ("vgg16", "openvino", "bf16", "8", "44.7 ± 0.5", "45.7", "180", "3.46x", "1.2e-02", "ok")
    assert table_cells(row) == expected
    assert len(HEADINGS) == len(expected)
    assert row_title(row) == "vgg16 openvino bf16 batch 8"


def test_options_are_shown_unless_they_are_the_usual():
    assert table_cells(made())[1] == "torch"
    assert table_cells(made(options="memory_format=channels_last"))[1] == "torch memory_format=channels_last"


def test_layers_that_were_kept_in_fp32_are_shown_and_the_rest_is_in_the_csv():
    options = "calibration=synthetic keep_fp32=features.0,classifier.6"
    row = made(precision="fp16", export_options=options)
    assert table_cells(row)[2] == "fp16 keep_fp32=features.0,classifier.6"
    assert row_title(row) == "vgg16 torch fp16 keep_fp32=features.0,classifier.6 batch 1"


def test_missing_is_empty():
    cells = table_cells(Row(batch_size=1))
    assert cells == ("", "", "", "1", "", "", "", "", "", "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0, "0"),
        (44.71, "44.7"),
        (0.012345, "0.0123"),
        (1234.6, "1235"),
        (1.0, "1.00"),
        (5e-9, "0.00000000500"),
    ],
)
def test_three_digits_and_no_exponent(value: float | None, text: str):
    assert significant(value) == text


@given(st.floats(1e-9, 1e9))
def test_a_number_shown_is_the_number_to_half_a_percent(value: float):
    assert float(significant(value)) == pytest.approx(value, rel=0.0051)


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (44.71, 44.1, 45.3, "44.7 ± 0.6"),
        (44.71, 44.06, 45.3, "44.7 ± 0.7"),
        (44.71, 38.0, 52.3, "45 ± 8"),
        (44.71, 38.6, 45.3, "45 (38 to 46)"),
        (44.71, 44.71, 44.71, "44.7"),
        (44.71, None, 45.0, "44.7"),
        (None, None, None, ""),
        (0.00123, 0.00120, 0.00125, "0.00123 ± 0.00003"),
        (107.2, 97.4, 225.1, "107 (97 to 226)"),
        (1000.0, 100.0, 3000.0, "1000 (100 to 3000)"),
        (1000.0, 100.0, 1900.0, "1000 ± 900"),
    ],
)
def test_an_interval_is_shown_to_the_digits_it_supports(value, low, high, text: str):
    assert with_interval(value, low, high) == text


def ends_shown(text: str) -> tuple[float, float]:
    if found := re.fullmatch(r"([\d.]+) ± ([\d.]+)", text):
        shown, half = (float(part) for part in found.groups())
        return shown - half, shown + half
    found = re.fullmatch(r"[\d.]+ \(([\d.]+) to ([\d.]+)\)", text)
    assert found is not None, text
    return float(found.group(1)), float(found.group(2))


@given(st.floats(1e-3, 1e5), st.floats(1e-4, 1), st.floats(1e-4, 1))
def test_an_interval_is_never_understated(value: float, below: float, above: float):
    low, high = value * (1 - below / 2), value * (1 + above)
    low_shown, high_shown = ends_shown(with_interval(value, low, high))
    slack = 1e-5 * (high - low)
    assert low_shown <= low + slack
    assert high_shown >= high - slack
    assert high_shown - low_shown <= 5 * (high - low)
