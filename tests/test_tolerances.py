"""The table of tolerances: bound, PyTorch's own error, observed error, margin; and what is worth seeing in a row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import InlineWorker, fake_cell, fake_plan
from tests.parity.test_own_error import SPEC
from vggbench.artefacts.quantization import Calibration
from vggbench.backends.base import PRECISIONS
from vggbench.backends.registry import find_backend
from vggbench.measure.client import WorkerFailure
from vggbench.plan import Cell
from vggbench.runner import Silent
from vggbench.tolerances import FAR, UNSUPPORTED, ToleranceRow, tolerance_table


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


def table(exports: Path, *cells: Cell, precisions: tuple[str, ...] = ()) -> list[ToleranceRow]:
    return tolerance_table(fake_plan(*cells), precisions, exports, Silent())


def onnx_cell(backend: str = "onnxruntime", **changes: Any) -> Cell:
    return replace(fake_cell(backend=backend, spec=SPEC, batch_size=1, threads=1), **changes)


@pytest.mark.slow
def test_a_row_has_bound_own_error_observed_error_and_margin(inline_workers: None, exports: Path) -> None:
    (row,) = table(exports, onnx_cell())
    assert (row.variant, row.input_size, row.precision, row.backend) == (SPEC.variant, 32, "fp32", "onnxruntime")
    assert (row.status, row.note, row.pytorch_how) == ("ok", "", "eager")
    assert row.bound is not None
    assert row.error is not None
    assert row.pytorch_error is not None
    assert 0 < row.error < row.bound
    assert row.margin == row.bound / row.error
    assert row.times_pytorch == row.error / row.pytorch_error


def test_precisions_that_nobody_has_are_rows_too(inline_workers: None, exports: Path) -> None:
    unsupported = onnx_cell(precision="bf16", unsupported="the CPU provider has no bf16 convolution")
    rows = table(exports, unsupported, onnx_cell(), precisions=PRECISIONS[:2])
    found = {(row.precision, row.backend): row for row in rows}
    assert [row.precision for row in rows] == sorted((row.precision for row in rows), key=PRECISIONS.index)
    named = found["bf16", "onnxruntime"]
    assert (named.status, named.note) == (UNSUPPORTED, "the CPU provider has no bf16 convolution")
    assert named.bound is not None
    assert named.pytorch_error is not None
    assert named.bound > named.pytorch_error
    assert {named.error, named.margin, named.times_pytorch} == {None}


@pytest.mark.slow
def test_a_quantised_row_has_two_errors(inline_workers: None, exports: Path) -> None:
    cell = onnx_cell(precision="int8", export_options=Calibration(images=8).options)
    if not find_backend(cell.backend).supports("int8", "cpu").supported:
        pytest.skip("this CPU has no instructions for int8 products")
    (row,) = table(exports, cell)
    assert (row.status, row.pytorch_error, row.times_pytorch) == ("ok", None, None)
    assert row.error is not None
    assert row.quantization_error is not None
    assert row.bound is not None
    assert row.error < row.bound
    assert row.error < row.quantization_error < 1


class Widening(InlineWorker):
    """A backend that runs something else than was asked."""

    def call(self, command: str, **arguments: object):
        found = super().call(command, **arguments)
        if command == "evidence":
            found["layers"] = [{**layer, "precision": "fp16"} for layer in found["layers"]]
        return found


def test_what_ran_in_another_precision_is_not_ok(
    inline_workers: None, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vggbench.measure.rounds.WorkerClient", Widening)
    (row,) = table(exports, onnx_cell())
    assert row.status == "precision_mismatch"
    assert row.note.startswith("fp32 was asked, of the MACs ran 100% in fp16")


class Worse(InlineWorker):
    """A backend whose error is within the bound, and no longer that of rounding."""

    def call(self, command: str, **arguments: object):
        if command == "verify":
            session = self._worker.session
            plain = session.fetch
            session.fetch = lambda slot: plain(slot) * (1 + 3e-6)
        return super().call(command, **arguments)


def test_what_is_within_the_bound_and_far_above_pytorchs_own_is_seen(
    inline_workers: None, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vggbench.measure.rounds.WorkerClient", Worse)
    (row,) = table(exports, onnx_cell())
    assert row.status == "ok"
    assert (row.times_pytorch or 0) > FAR
    assert row.note.startswith("within the bound, and ")
    assert row.note.endswith(" times PyTorch's own: not as good as the precision can be")


class Dying(InlineWorker):
    """One whose process ends in the middle."""

    started = 0

    def __init__(self, **settings: object) -> None:
        super().__init__()
        Dying.started += 1

    def call(self, command: str, **arguments: object):
        if arguments.get("batch_size") == 2:
            raise WorkerFailure(command, "failed", "the worker was killed by SIGSEGV")
        return super().call(command, **arguments)


@pytest.mark.slow
def test_a_process_serves_all_cells_of_a_backend_until_one_breaks_it(
    inline_workers: None, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vggbench.measure.rounds.WorkerClient", Dying)
    monkeypatch.setattr(Dying, "started", 0)
    cells = [replace(onnx_cell(), batch_size=size) for size in (1, 3, 2, 4, 5)]
    rows = table(exports, *cells)
    assert [row.status for row in rows] == ["ok", "ok", "failed", "ok", "ok"]
    assert rows[2].note == "the worker was killed by SIGSEGV"
    assert rows[2].pytorch_error is not None
    assert Dying.started == 2
