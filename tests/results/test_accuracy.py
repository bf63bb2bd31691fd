"""Rows of accuracy, from predictions written by hand."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pytest

from tests.meta.repository import ROOT
from vggbench.results.accuracy import (
    Accuracy,
    AccuracyRow,
    accuracy_columns,
    accuracy_dictionary,
    accuracy_rows,
    verdict,
)
from vggbench.results.columns import Row
from vggbench.results.predictions import DataRecord
from vggbench.stats import PairedChange

README = ROOT / "reports" / "README.md"
BEGIN, END = "<!-- accuracy columns: begin -->\n", "<!-- accuracy columns: end -->\n"
CLASSES = 10
LABELS = np.arange(40, dtype=np.int64) % CLASSES
DATA = DataRecord(name="cifar-10/test", sha256="cd" * 32, images=40, used=40, skipped=(("x", "is empty"),))


def row(name: str, precision: str = "fp32", backend: str = "torch", status: str = "ok", spec: str = "s") -> Row:
    return Row(variant="net", backend=backend, precision=precision, status=status, cell_id=name, spec_hash=spec)


def said(wrong: Sequence[int] = (), second: Sequence[int] = (), classes: int = 5) -> list[tuple[int, ...]]:
    """Return predictions that are right but for `wrong` images, of which `second` have their class in second place."""
    found = []
    for place, label in enumerate(LABELS.tolist()):
        others = [(label + step) % CLASSES for step in range(1, classes + 1)]
        if place in second:
            others[1] = label
        found.append(tuple(others[:classes] if place in wrong else [label, *others[: classes - 1]]))
    return found


def made(rows: Sequence[Row], predictions: dict[str, list[tuple[int, ...]]]) -> list[AccuracyRow]:
    return accuracy_rows(rows, DATA, LABELS, predictions, {one.cell_id or "": "0-1" for one in rows})


def test_shares_have_wilsons_interval():
    (one,) = made([row("a")], {"a": said(wrong=range(10), second=range(4))})
    found = one.accuracy
    assert (found.images, found.top1_percent, found.top5_percent) == (40, 75.0, 85.0)
    assert found.top1_low_percent == pytest.approx(59.81, abs=0.01)
    assert found.top1_high_percent == pytest.approx(85.81, abs=0.01)
    assert (found.data, found.data_sha256, found.unreadable_files) == ("cifar-10/test", "cd" * 32, 1)
    assert found.preprocessing == "0-1"


def test_five_likeliest_of_fewer_classes_say_nothing():
    (one,) = made([row("a")], {"a": said(classes=4)})
    assert (one.accuracy.top1_percent, one.accuracy.top5_percent) == (100.0, None)


def test_a_row_is_held_against_torchs_fp32():
    rows = [row("o", backend="onnxruntime"), row("t"), row("b", "bf16"), row("i", "int8", backend="openvino")]
    predictions = {
        "o": said(wrong=[0]),
        "t": said(wrong=[0, 1]),
        "b": said(wrong=[0, 1]),
        "i": said(wrong=[0, *range(2, 12)]),
    }
    onnx, torch, bf16, int8 = (one.accuracy for one in made(rows, predictions))
    assert (torch.against, torch.changed, torch.verdict, torch.p_value) == (None, None, None, None)
    assert (onnx.against, onnx.changed, onnx.lost, onnx.won) == ("torch fp32", 1, 0, 1)
    assert (bf16.changed, bf16.p_value, bf16.verdict) == (0, 1.0, "no difference shown")
    assert (int8.changed, int8.lost, int8.won, int8.change_points) == (11, 10, 1, -22.5)
    assert int8.p_value == pytest.approx(2 * 12 / 2**11)
    assert int8.verdict == "-22.50 points (p = 0.012)"


def test_images_that_are_wrong_otherwise_are_changed_and_neither_lost_nor_won():
    others = said(wrong=[0])
    others[0] = others[0][1:] + others[0][:1]
    rows = made([row("t"), row("b", "bf16")], {"t": said(wrong=[0]), "b": others})
    assert (rows[1].accuracy.changed, rows[1].accuracy.lost, rows[1].accuracy.won) == (1, 0, 0)


def test_without_torch_the_first_sound_fp32_row_counts():
    rows = [row("o", backend="onnxruntime", status="fallback"), row("v", backend="openvino"), row("b", "bf16")]
    found = made(rows, {one.cell_id or "": said() for one in rows})
    assert found[2].accuracy.against == "openvino fp32"


def test_without_an_fp32_row_there_is_nothing_to_hold_against():
    (one,) = made([row("b", "bf16")], {"b": said()})
    assert (one.accuracy.top1_percent, one.accuracy.against, one.accuracy.verdict) == (100.0, None, None)


def test_other_networks_are_not_compared():
    one, two = made([row("a", spec="s"), row("b", "bf16", spec="other")], {"a": said(), "b": said()})
    assert one.accuracy.against is two.accuracy.against is None


def test_a_cell_that_has_not_seen_all_images_has_no_figures():
    whole, part = made([row("a"), row("b", "bf16")], {"a": said(), "b": said()[:-1]})
    assert whole.accuracy.top1_percent == 100.0
    assert (part.accuracy.images, part.accuracy.top1_percent, part.accuracy.against) == (None, None, None)


@pytest.mark.parametrize(
    ("lost", "won", "words"),
    [
        (0, 0, "no difference shown"),
        (30, 25, "no difference shown"),
        (45, 15, "-0.30 points (p = 0.00013)"),
        (0, 8, "+0.08 points (p = 0.0078)"),
    ],
)
def test_the_verdict_tells_a_difference_from_noise(lost: int, won: int, words: str):
    assert verdict(PairedChange(lost=lost, won=won, images=10_000)) == words


def test_values_are_in_the_columns_order():
    (one,) = made([row("a")], {"a": said()})
    assert list(one.values) == list(accuracy_columns())
    assert {column.name for column in fields(Accuracy)} < one.values.keys()
    assert (one.values["variant"], one.values["top1_percent"], one.values["cell_id"]) == ("net", 100.0, "a")


def test_reports_readme_has_the_dictionary():
    text = README.read_text()
    before, found, after = re.split(f"{re.escape(BEGIN)}|{re.escape(END)}", text)
    if os.environ.get("VGGBENCH_WRITE_GOLDENS"):
        README.write_text(f"{before}{BEGIN}{accuracy_dictionary()}{END}{after}")
    else:
        assert found == accuracy_dictionary()
