"""Runs on the fake backend: what is measured, in which order, and what is left when a run is stopped."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import fake_cell, fake_plan
from tests.results.made import timed
from tests.running import TWO, Watcher, made, measured, start
from vggbench.errors import DiskSpaceError, ExportError, RunFolderError
from vggbench.measure.records import RoundRecord
from vggbench.measure.request import RoundRequest
from vggbench.measure.rounds import run_round
from vggbench.plan.order import schedule
from vggbench.report.derive import DERIVED_NAMES
from vggbench.results.journal import JOURNAL_NAME
from vggbench.results.run_info import FILE_NAME
from vggbench.runner import Places, resume_run, verify_plan

pytestmark = pytest.mark.usefixtures("inline_workers")


# A run from its start to its end


def test_a_run_writes_everything_and_returns_its_rows(places: Places):
    rows = start(fake_plan(*TWO, rounds=6), places)
    assert [row.status for row in rows] == ["ok", "ok"]
    assert [row.rounds for row in rows] == [6, 6]
    assert all(row.latency_low_ms == row.latency_ms == row.latency_high_ms == 1.0 for row in rows)
    assert all(row.throughput_img_s == pytest.approx(2 * 2 / 0.001) for row in rows)
    assert all(row.artefact_sha256 == row.verified_sha256 is not None for row in rows)
    names = {path.name for path in places.folder.iterdir()} - {".lock"}
    assert names == {FILE_NAME, JOURNAL_NAME, "results.csv", "samples.parquet", "summary.md"}


def test_too_little_room_is_said_before_anything_is_written(places: Places, monkeypatch: pytest.MonkeyPatch):
    plan = fake_plan(fake_cell(backend="torch"))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(DiskSpaceError, match=r"MiB are needed at .*, 0 MiB are free"):
        start(plan, places)
    with pytest.raises(DiskSpaceError, match="make room there or name another folder"):
        verify_plan(plan, places.exports, backend_versions={})
    assert not places.folder.exists()


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("open", "failed", "round 1 at open: RuntimeError: the script says that opening fails"),
        ("run", "failed", "round 1 at open: RuntimeError: the script says that running fails"),
        ("wrong", "parity_failed", "of the signal"),
        ("nan", "parity_failed", "NaN or infinite"),
        ("constant", "parity_failed", "the same for every image"),
        ("shape", "parity_failed", "where (8, 5) is expected"),
        ("precision", "precision_mismatch", "fp32 was asked, of the MACs ran 100% in bf16"),
        ("fallback", "fallback", "3 nodes on fake, 2 nodes on other"),
        ("batch", "failed", "batch 2 was asked, batch 1 ran"),
    ],
)
def test_each_fault_is_its_rows_status_and_reason(places: Places, fault: str, status: str, words: str):
    (row,) = start(fake_plan(fake_cell(fault=fault)), places)
    assert row.status == status
    assert words in row.reasons


def test_a_process_that_dies_is_a_failed_row(places: Places, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()  # with a real process
    (row,) = start(fake_plan(fake_cell(fault="crash"), rounds=3), places)
    assert (row.status, row.rounds) == ("failed", 0)
    assert row.reasons.startswith("round 1 at open: the worker was killed by SIGKILL, perhaps by the kernel because")


@pytest.mark.slow
def test_a_process_that_hangs_is_a_row_that_timed_out(places: Places, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    # Long enough for a process to start on a busy machine, short enough to wait for.
    (row,) = start(fake_plan(fake_cell(fault="hang"), rounds=3, timeout_s=1.5), places)
    assert (row.status, row.rounds) == ("timeout", 0)
    assert row.reasons == "round 1 at open: no answer within 5.5 s"


def test_a_cell_that_failed_is_not_measured_again_and_the_others_are(places: Places):
    cells = (fake_cell(fault="wrong"), fake_cell(fault="open"), fake_cell())
    rows = start(fake_plan(*cells, rounds=3), places)
    assert [row.status for row in rows] == ["parity_failed", "failed", "ok"]
    assert Counter(cell_id for cell_id, _ in measured(places)) == dict(
        zip([cell.id for cell in cells], [1, 1, 3], strict=True)
    )


def test_an_unsupported_cell_is_a_row_without_rounds(places: Places):
    rows = start(fake_plan(fake_cell(precision="bf16", unsupported="not here"), fake_cell()), places)
    assert [(row.status, row.rounds) for row in rows] == [("unsupported", 0), ("ok", 1)]


def test_a_cell_that_cannot_be_prepared_is_a_row(places: Places, monkeypatch: pytest.MonkeyPatch):
    def broken(*_):
        raise ExportError("torch could not export it")

    monkeypatch.setattr("vggbench.preparation.materials", broken)
    (row,) = start(fake_plan(fake_cell()), places)
    assert (row.status, row.reasons) == ("failed", "prepare: torch could not export it")


def test_the_observer_hears_everything_in_order(places: Places):
    watcher = Watcher()
    start(fake_plan(*TWO, rounds=2), places, observer=watcher, execute=made)
    ids = [cell.id for cell in TWO]
    assert watcher.heard[:2] == [("preparing", ids[0]), ("preparing", ids[1])]
    assert [(kind, *rest[1:]) for kind, *rest in watcher.heard[2:]] == [
        ("measuring", 0, 4),
        ("measured", 0),
        ("measuring", 1, 4),
        ("measured", 0),
        ("measuring", 2, 4),
        ("measured", 1),
        ("measuring", 3, 4),
        ("measured", 1),
    ]


def test_a_round_is_asked_for_what_its_cell_says(places: Places):
    asked = []
    cell = fake_cell(precision="bf16", batch_size=3, latency_ms="2")
    plan = replace(fake_plan(cell, rounds=2), seed=40)
    start(plan, places, execute=lambda request: asked.append(request) or timed(cell, request.round, 1.0))
    assert [request.seed for request in asked] == [40, 41]
    first = asked[0]
    assert (first.cell_id, first.precision, first.batch_size, first.in_flight) == (cell.id, "bf16", 3, 2)
    assert (first.options, first.timeout_s) == (cell.options, plan.timeout_s)
    assert run_round(first).failure is None


def test_every_round_is_in_the_journal_before_the_next_begins(places: Places):
    seen = []

    def execute(request: RoundRequest) -> RoundRecord:
        seen.append(len(measured(places)))
        return made(request)

    start(fake_plan(*TWO, rounds=2), places, execute=execute)
    assert seen == [0, 1, 2, 3]


# The order


CELLS = [fake_cell(batch_size=size) for size in range(1, 5)]


@given(st.integers(0, 4), st.integers(0, 10), st.integers(0, 2**32))
def test_each_round_has_every_cell_once(count: int, rounds: int, seed: int):
    cells = CELLS[:count]
    steps = list(schedule(cells, rounds, seed))
    assert [number for number, _ in steps] == [number for number in range(rounds) for _ in cells]
    assert Counter((number, cell.id) for number, cell in steps) == Counter(
        (number, cell.id) for number in range(rounds) for cell in cells
    )
    assert steps == list(schedule(cells, rounds, seed))


def test_orders_differ_from_round_to_round():
    steps = list(schedule(CELLS, 20, 0))
    orders = {tuple(cell.id for _, cell in steps[start : start + 4]) for start in range(0, 80, 4)}
    assert len(orders) > 5


# Folders


@pytest.mark.parametrize("name", DERIVED_NAMES)
def test_somebodys_results_are_not_replaced(places: Places, name: str):
    places.folder.mkdir(parents=True)
    (places.folder / name).write_text("precious")
    with pytest.raises(RunFolderError, match=f"holds a {name} that a run would replace"):
        start(fake_plan(*TWO), places, execute=made)
    assert (places.folder / name).read_text() == "precious"


def test_a_folder_with_a_run_is_refused(places: Places):
    start(fake_plan(*TWO), places, execute=made)
    before = (places.folder / FILE_NAME).read_bytes()
    with pytest.raises(RunFolderError, match="holds a run already; continue it with --resume"):
        start(fake_plan(*TWO), places, execute=made)
    assert (places.folder / FILE_NAME).read_bytes() == before


def test_rounds_without_their_run_are_refused(places: Places):
    start(fake_plan(*TWO), places, execute=made)
    (places.folder / FILE_NAME).unlink()
    with pytest.raises(RunFolderError, match=r"holds the rounds of a run without its run\.json"):
        start(fake_plan(*TWO), places, execute=made)


def test_two_runs_in_one_folder(places: Places):
    start(fake_plan(*TWO), places, execute=made)
    with FileLock(places.folder / ".lock"):
        for begin in (lambda: resume_run(places), lambda: start(fake_plan(*TWO), places)):
            with pytest.raises(RunFolderError, match="is in use by another vggbench"):
                begin()


def test_the_folder_is_held_while_rounds_are_measured(places: Places):
    def execute(request: RoundRequest) -> RoundRecord:
        with pytest.raises(RunFolderError, match="is in use"):
            resume_run(places)
        return made(request)

    start(fake_plan(*TWO), places, execute=execute)


def test_a_folder_that_cannot_be_made(places: Places, tmp_path: Path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunFolderError, match=r"cannot be made: .*; name another with --output"):
            start(fake_plan(*TWO), replace(places, folder=folder))


def test_a_folder_that_cannot_be_written(places: Places, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(RunFolderError, match="cannot be written: Permission denied"):
        start(fake_plan(*TWO), places)


def test_resuming_where_there_is_no_run(places: Places):
    with pytest.raises(RunFolderError, match="holds no run"):
        resume_run(places)
    assert not places.folder.exists()


def test_errors_from_inside_are_not_taken_for_the_folders(places: Places):
    def execute(_request: RoundRequest) -> RoundRecord:
        raise PermissionError(13, "Permission denied", "elsewhere")

    with pytest.raises(PermissionError, match="elsewhere"):
        start(fake_plan(*TWO), places, execute=execute)


# Verifying alone


def test_verifying_keeps_and_times_nothing(places: Places):
    watcher = Watcher()
    cells = (*TWO, fake_cell(fault="wrong"), fake_cell(batch_size=3, unsupported="no"))
    rows = verify_plan(fake_plan(*cells), places.exports, backend_versions={"fake": "1"}, observer=watcher)
    assert [row.status for row in rows] == ["ok", "ok", "parity_failed", "unsupported"]
    assert {row.latency_ms for row in rows} == {None}
    assert rows[0].reasons is None
    assert rows[0].parity_error < rows[0].parity_tolerance
    assert not places.folder.exists()
    assert [heard[2:] for heard in watcher.heard if heard[0] == "measuring"] == [(0, 3), (1, 3), (2, 3)]


def test_verifying_needs_no_observer(places: Places):
    (row,) = verify_plan(fake_plan(TWO[0]), places.exports, backend_versions={})
    assert row.status == "ok"
