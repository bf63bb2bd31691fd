from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggbench.audit.figures import ASSUMED_DOUBT, read_figure


@pytest.mark.parametrize(
    ("text", "value", "low", "high"),
    [
        ("44.7 ± 0.6", 44.7, 44.1, 45.3),
        ("44.7 +/- 0.6 ms", 44.7, 44.1, 45.3),
        ("107 (97 to 226)", 107, 97, 226),
        ("77 (75, 79)", 77, 75, 79),
        ("100", 100, 97, 103),
        ("~100 ms", 100, 97, 103),
        ("1,234.5", 1234.5, 1234.5 * (1 - ASSUMED_DOUBT), 1234.5 * (1 + ASSUMED_DOUBT)),
        ("138.4M", 138.4e6, 138.4e6 * (1 - ASSUMED_DOUBT), 138.4e6 * (1 + ASSUMED_DOUBT)),
        ("7", 7, 6.5, 7.5),  # the last digit says less than 3 %
        ("1e-3", 1e-3, 0.5e-3, 1.5e-3),
    ],
)
def test_what_a_cell_says(text: str, value: float, low: float, high: float) -> None:
    figure = read_figure(text)
    assert figure is not None
    assert (figure.value, figure.low, figure.high) == pytest.approx((value, low, high))


@pytest.mark.parametrize("text", ["", "-", "n/a", "OOM", "nan", "inf", "1e999", "2 of 3", "fp16", "abc 12", "."])
def test_no_figure(text: str) -> None:
    assert read_figure(text) is None


@given(st.floats(1e-12, 1e12))
def test_every_number_is_read_and_lies_within_its_ends(number: float) -> None:
    figure = read_figure(repr(number))
    assert figure is not None
    assert figure.value == number
    assert figure.low <= number <= figure.high


@given(st.text())
def test_any_text_is_a_finite_figure_or_none(text: str) -> None:
    figure = read_figure(text)
    assert figure is None or math.isfinite(figure.value)
