"""Runs that were stopped, and go on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import fake_plan
from tests.results.made import failed_parity, record, session
from tests.running import TWO, Watcher, made, measured, start, stopped_after
from vggbench import environment
from vggbench.environment import Environment
from vggbench.errors import ArtefactError, ExportError, Interrupted, RunFolderError, WeightsError
from vggbench.measure.records import Failure, RoundRecord
from vggbench.measure.request import RoundRequest
from vggbench.plan import Cell
from vggbench.plan.order import schedule
from vggbench.results.journal import JOURNAL_NAME
from vggbench.results.run_info import FILE_NAME, read_run_info, write_run_info
from vggbench.runner import Places, resume_run

pytestmark = pytest.mark.usefixtures("inline_workers")


# Stopped and resumed


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_an_interrupted_run_reports_and_says_how_to_go_on(places: Places, count: int):
    log: list[tuple[str, int]] = []
    with pytest.raises(Interrupted) as caught:
        start(fake_plan(*TWO, rounds=4), places, execute=stopped_after(count, log))
    command = f"vggbench run --resume --output {places.folder} --exports {places.exports}"
    assert str(caught.value) == f"stopped after {count} rounds; continue with: {command}"
    assert caught.value.exit_code == 130
    assert measured(places) == log
    assert "continue with --resume" in (places.folder / "summary.md").read_text()
    assert (places.folder / "results.csv").exists()


def test_the_command_to_go_on_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Interrupted) as caught:
        start(
            fake_plan(*TWO),
            Places(folder=Path("my run"), exports=Path("exports")),
            execute=stopped_after(0, []),
        )
    assert str(caught.value).endswith("continue with: vggbench run --resume --output 'my run'")


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_a_resumed_run_measures_no_finished_round_again(places: Places, count: int):
    plan = fake_plan(*TWO, rounds=4)
    first: list[tuple[str, int]] = []
    second: list[tuple[str, int]] = []
    with pytest.raises(Interrupted):
        start(plan, places, execute=stopped_after(count, first))
    rows = resume_run(places, execute=stopped_after(-1, second))
    order = [(cell.id, number) for number, cell in schedule(TWO, 4, plan.seed)]
    assert first + second == order
    assert measured(places) == order
    assert [row.rounds for row in rows] == [4, 4]


def test_a_run_may_be_stopped_again_and_again(places: Places):
    plan = fake_plan(*TWO, rounds=3)
    log: list[tuple[str, int]] = []
    with pytest.raises(Interrupted):
        start(plan, places, execute=stopped_after(1, log))
    for count in (1, 2, 4):
        with pytest.raises(Interrupted):
            resume_run(places, execute=stopped_after(count, log))
    resume_run(places, execute=stopped_after(-1, log))
    assert Counter(log) == Counter((cell.id, number) for cell in TWO for number in range(3))
    assert len(log) == 6


def test_resuming_a_finished_run_measures_nothing(places: Places):
    rows = start(fake_plan(*TWO, rounds=2), places, execute=made)
    assert resume_run(places, execute=stopped_after(0, [])) == rows


def test_a_torn_round_is_measured_again(places: Places):
    start(fake_plan(*TWO, rounds=2), places, execute=made)
    journal = places.folder / JOURNAL_NAME
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])
    log: list[tuple[str, int]] = []
    resume_run(places, execute=stopped_after(-1, log))
    assert len(log) == 1
    assert journal.read_bytes() == whole


@pytest.mark.parametrize("ending", ["failure", "parity"])
def test_a_cell_that_was_given_up_stays_given_up(places: Places, ending: str):
    def bad(request: RoundRequest) -> RoundRecord:
        if request.cell_id == TWO[1].id:
            return made(request)
        if ending == "failure":
            failure = Failure(stage="open", status="failed", reason="no")
            return record(TWO[0], request.round, failure=failure)
        return record(TWO[0], request.round, session(TWO[0], parity=failed_parity()))

    with pytest.raises(Interrupted):
        start(fake_plan(*TWO, rounds=3), places, execute=stopped_after(2, [], bad))
    log: list[tuple[str, int]] = []
    rows = resume_run(places, execute=stopped_after(-1, log))
    assert {cell_id for cell_id, _ in log} == {TWO[1].id}
    assert [row.rounds for row in rows] == [0 if ending == "failure" else 1, 3]


def test_interrupted_while_files_are_made(places: Places, monkeypatch: pytest.MonkeyPatch):
    class Stopping(Watcher):
        def preparing(self, cell: Cell) -> None:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="stopped after 0 rounds"):
        start(fake_plan(*TWO), places, observer=Stopping())
    assert "failed" in (places.folder / "summary.md").read_text()
    assert [row.status for row in resume_run(places, execute=made)] == ["failed", "failed"]  # made-up artefacts


# The same environment, the same files


def test_another_environment_is_refused(places: Places, monkeypatch: pytest.MonkeyPatch, this_environment: Environment):
    start(fake_plan(*TWO), places, execute=made)
    libraries = {**this_environment.libraries, "numpy": "0.1"}
    monkeypatch.setattr(environment, "collect", lambda: replace(this_environment, libraries=libraries))
    with pytest.raises(RunFolderError) as caught:
        resume_run(places, execute=made)
    was = this_environment.libraries["numpy"]
    assert f"another environment (libraries.numpy was '{was}', is '0.1'); start a new one" in str(caught.value)


def edited(places: Places, change: Callable[[dict[str, Any]], None]) -> None:
    path = places.folder / FILE_NAME
    data = json.loads(path.read_text())
    change(data["prepared"][TWO[0].id])
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda prepared: prepared["artefact"].update(sha256="0" * 64), "the artefact of cell"),
        (lambda prepared: prepared.update(reference_sha256="0" * 64), "the reference of cell"),
    ],
)
def test_other_files_are_refused(places: Places, change: Callable[[dict[str, Any]], None], words: str):
    start(fake_plan(*TWO), places, execute=made)
    edited(places, change)
    with pytest.raises(RunFolderError, match=f"{words} {TWO[0].id} is not the one the run began with"):
        resume_run(places, execute=made)


def test_a_cell_that_could_not_be_prepared_may_be_at_the_second_try(places: Places, monkeypatch: pytest.MonkeyPatch):
    def broken(*_):
        raise ExportError("no room")

    with monkeypatch.context() as patch:
        patch.setattr("vggbench.preparation.materials", broken)
        start(fake_plan(*TWO), places)
    assert [row.status for row in resume_run(places)] == ["ok", "ok"]
    assert read_run_info(places.folder).prepared[TWO[0].id].failure is None


def test_what_was_prepared_for_other_cells_does_not_matter(places: Places):
    start(fake_plan(*TWO), places)
    info = read_run_info(places.folder)
    stranger = {"0" * 12: next(iter(info.prepared.values()))}
    write_run_info(places.folder, replace(info, prepared={**info.prepared, **stranger}))
    assert [row.status for row in resume_run(places)] == ["ok", "ok"]


def test_a_wrong_request_while_files_are_made_can_be_put_right(places: Places, monkeypatch: pytest.MonkeyPatch):
    def broken(*_):
        raise ArtefactError("model.onnx: the file is missing; remove the folder and export again")

    with monkeypatch.context() as patch:
        patch.setattr("vggbench.preparation.materials", broken)
        with pytest.raises(ArtefactError):
            start(fake_plan(*TWO), places)
    assert [row.status for row in resume_run(places)] == ["ok", "ok"]


# Tried again


class Flaky:
    """Makes rounds of which those named fail the first so many times."""

    def __init__(self, fails: dict[tuple[str, int], int]) -> None:
        self.fails = Counter(fails)
        self.log: list[tuple[str, int]] = []

    def __call__(self, request: RoundRequest) -> RoundRecord:
        key = (request.cell_id, request.round)
        self.log.append(key)
        if not self.fails[key]:
            return made(request)
        self.fails[key] -= 1
        (cell,) = [cell for cell in TWO if cell.id == request.cell_id]
        return record(cell, request.round, failure=Failure(stage="verify", status="timeout", reason="no answer"))


def test_rounds_that_failed_are_made_again_when_that_is_asked(places: Places):
    execute = Flaky({(TWO[0].id, 1): 1})
    rows = start(fake_plan(*TWO, rounds=3), places, execute=execute)
    assert [row.status for row in rows] == ["failed", "failed"]  # made-up artefacts
    assert [row.rounds for row in rows] == [1, 3]
    before = (places.folder / JOURNAL_NAME).read_bytes()
    execute.log.clear()
    rows = resume_run(places, retry_failed=True, execute=execute)
    assert sorted(execute.log) == sorted([(TWO[0].id, 1), (TWO[0].id, 2)])
    assert [row.rounds for row in rows] == [3, 3]
    assert "1 of 3 rounds failed before and were measured when tried again" in rows[0].reasons
    assert "timeout" not in rows[0].reasons
    assert "tried again" not in rows[1].reasons
    assert (places.folder / JOURNAL_NAME).read_bytes().startswith(before)


def test_a_round_that_fails_again_is_given_up_again(places: Places):
    execute = Flaky({(TWO[0].id, 0): 2})
    start(fake_plan(*TWO, rounds=2), places, execute=execute)
    rows = resume_run(places, retry_failed=True, execute=execute)
    assert [row.rounds for row in rows] == [0, 2]
    assert rows[0].reasons.count("round 1 at verify: no answer") == 1
    assert [row.rounds for row in resume_run(places, execute=execute)] == [0, 2]
    assert [row.rounds for row in resume_run(places, retry_failed=True, execute=execute)] == [2, 2]


def test_trying_again_measures_nothing_that_was_measured_or_was_wrong(places: Places):
    def wrong(request: RoundRequest) -> RoundRecord:
        return record(TWO[0], request.round, session(TWO[0], parity=failed_parity()))

    start(fake_plan(TWO[0], rounds=2), places, execute=wrong)
    resume_run(places, retry_failed=True, execute=stopped_after(0, []))


# What came to nothing


def test_a_request_that_is_found_wrong_leaves_no_folder(places: Places, monkeypatch: pytest.MonkeyPatch):
    def broken(*_):
        raise WeightsError("weights file 'own.pth' does not fit vgg11")

    with monkeypatch.context() as patch:
        patch.setattr("vggbench.preparation.materials", broken)
        with pytest.raises(WeightsError):
            start(fake_plan(*TWO), places)
    assert not places.folder.exists()
    assert [row.status for row in start(fake_plan(*TWO), places)] == ["ok", "ok"]


def test_a_folder_that_was_there_keeps_what_is_in_it(places: Places, monkeypatch: pytest.MonkeyPatch):
    def broken(*_):
        raise WeightsError("weights file 'own.pth' does not fit vgg11")

    places.folder.mkdir()
    (places.folder / "notes.txt").touch()
    monkeypatch.setattr("vggbench.preparation.materials", broken)
    with pytest.raises(WeightsError):
        start(fake_plan(*TWO), places)
    assert {path.name for path in places.folder.iterdir()} - {".lock"} == {"notes.txt"}


def test_without_memory_to_prepare_a_cell_it_is_a_failed_row(places: Places, monkeypatch: pytest.MonkeyPatch):
    from vggbench.preparation import materials

    def starved(cell: Cell, exports: Path):
        if cell == TWO[0]:
            raise MemoryError
        return materials(cell, exports)

    monkeypatch.setattr("vggbench.preparation.materials", starved)
    rows = start(fake_plan(*TWO), places)
    assert [row.status for row in rows] == ["failed", "ok"]
    assert rows[0].reasons == "prepare: memory ran out"


def test_a_round_of_no_cell_of_the_plan_is_refused(places: Places):
    start(fake_plan(*TWO), places, execute=made)
    journal = places.folder / JOURNAL_NAME
    journal.write_text(journal.read_text().replace(TWO[0].id, "0123456789ab"))
    with pytest.raises(RunFolderError, match="cell 0123456789ab is not in the plan"):
        resume_run(places, execute=stopped_after(0, []))
