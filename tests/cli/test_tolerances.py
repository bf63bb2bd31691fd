"""`vggbench tolerances`: the table, its JSON and its exit codes; what is in it is `tests/test_tolerances.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import CommandLine, Said
from vggbench.models.configs import VARIANTS
from vggbench.plan import Plan
from vggbench.tolerances import ToleranceRow

GOOD = ToleranceRow(
    variant="vgg11",
    input_size=32,
    precision="fp32",
    backend="onnxruntime",
    options="",
    bound=1e-4,
    pytorch_error=5e-6,
    pytorch_how="eager",
    error=4e-6,
    quantization_error=None,
    margin=25.0,
    times_pytorch=0.8,
    status="ok",
    note="",
)


@pytest.fixture
def tolerances(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[Said, Plan, list[str]]]:
    """Return a function that runs the command on rows that are made up, and hands over what was asked of the table."""

    def call(*arguments: object, rows: tuple[ToleranceRow, ...] = (GOOD,)) -> tuple[Said, Plan, list[str]]:
        asked: list[Any] = []

        def table(plan: Plan, precisions: list[str], *_rest: object) -> list[ToleranceRow]:
            asked.extend([plan, precisions])
            return list(rows)

        monkeypatch.setattr("vggbench.tolerances.tolerance_table", table)
        places = ("--backend", "fake", "--exports", tmp_path)
        said = command_line("tolerances", *places, *arguments)
        return said, *asked

    return call


pytestmark = pytest.mark.usefixtures("inline_workers")


def test_without_a_network_every_variant_is_small(tolerances):
    said, plan, precisions = tolerances()
    assert said.code == 0
    assert {cell.spec.variant for cell in plan.cells} == set(VARIANTS)
    assert {cell.spec.input_size for cell in plan.cells} == {32}
    assert {"fp32", "tf32", "fp16", "bf16"} <= set(precisions)
    assert said.out.splitlines()[-1].split() == [
        *("vgg11", "32", "fp32", "onnxruntime", "1.0e-04", "5.0e-06", "eager", "4.0e-06", "25.0", "0.80", "ok")
    ]


def test_a_named_network_has_its_own_size(tolerances):
    _said, plan, precisions = tolerances("--variant", "vgg16_bn", "--precision", "fp32")
    assert {(cell.spec.variant, cell.spec.input_size) for cell in plan.cells} == {("vgg16_bn", 224)}
    assert {cell.precision for cell in plan.cells} == {"fp32"}
    assert precisions == []


def test_what_is_chosen_beside_the_network_is_taken(tolerances):
    _said, plan, _precisions = tolerances("--input-size", "64")
    assert {cell.spec.input_size for cell in plan.cells} == {64}


def test_json_has_a_rows_fields(tolerances):
    said, *_ = tolerances("--json", "--variant", "vgg11")
    (row,) = json.loads(said.out)
    assert list(row) == [field.name for field in fields(ToleranceRow)]
    assert row["margin"] == 25.0


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *(("parity_failed", 1), ("precision_mismatch", 1), ("fallback", 1), ("failed", 5), ("timeout", 5)),
        ("unsupported", 0),
    ],
)
def test_a_row_that_is_wrong_decides_the_exit_code(tolerances, status: str, code: int):
    said, *_ = tolerances("--variant", "vgg11", rows=(GOOD, replace(GOOD, status=status, error=None, note="why")))
    assert said.code == code
    assert said.out.splitlines()[-1].split()[-2:] == [status, "why"]
    assert (code == 0) or said.message.startswith("vggbench: 1 of 2 rows ")


def test_a_table_of_nothing_that_ran_is_no_success(tolerances):
    said, *_ = tolerances("--variant", "vgg11", rows=(replace(GOOD, status="unsupported", note="why"),))
    assert said.code == 4
