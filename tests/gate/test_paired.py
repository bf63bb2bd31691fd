"""Paired gates on the fake backend: what is measured, what is said of it, and what is left of an interrupted one."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.fakes import fake_cell
from tests.gate.two_sides import (
    BASE,
    BOTH,
    HEAD,
    environment,
    faulty,
    gate_of,
    journal_lines,
    noisy,
    sides,
    steady,
)
from tests.gate.watching import GateWatcher
from vggbench.errors import Interrupted, NothingToJudge, RequestError, RunFolderError
from vggbench.gate.gate_info import read_gate_info
from vggbench.gate.gate_report import report_of
from vggbench.gate.journal import read_pairs
from vggbench.gate.paired import resume_gate, start_gate
from vggbench.gate.pairing import paired_round
from vggbench.gate.records import GateReport
from vggbench.runner import Places

pytestmark = pytest.mark.usefixtures("inline_workers")


def gate(places: Places, *cells: Any, base: Any = None, head: Any = None, **changes: Any) -> GateReport:
    return start_gate(gate_of(*cells, **changes), places, sides(base, head), GateWatcher())


def verdicts(report: GateReport) -> list[str]:
    return [found.verdict for found in report.verdicts]


# What is said


def test_the_same_on_both_sides_passes_and_says_what_differs_first(places: Places):
    report = gate(places)
    assert verdicts(report) == ["PASS", "PASS"]
    assert report.exit_code == 0
    assert report.error() is None
    assert report.differences == {"torch": ("2.13.0", "2.14.0")}
    assert [found.ratio for found in report.verdicts] == [1.0, 1.0]
    assert (report.base, report.head) == ("/env (Python 3.12.1)", "/new (Python 3.12.1)")
    assert "outputs: the same to the bit on both sides, in 2 of 2 cells" in report.notes
    assert {found.base_ms for found in report.verdicts} == {1.0}


def test_a_slower_head_is_flagged_confirmed_and_regressed_by_how_much(places: Places):
    watcher = GateWatcher()
    report = start_gate(gate_of(BOTH[0]), places, sides(noisy(1, 1), noisy(1.05, 2)), watcher)
    (found,) = report.verdicts
    assert (found.verdict, found.flagged, found.rounds, report.exit_code) == ("REGRESSED", True, 15, 1)
    assert found.low < 1.05 < found.high
    assert found.ratio == pytest.approx(1.05, abs=0.005)
    assert ("confirming", 1) in watcher.heard


def test_only_what_was_flagged_is_measured_again(places: Places):
    slower = {BOTH[1].id: steady(1.1)}

    def execute(asked, starters):
        head = slower.get(asked.requests["head"].cell_id, steady(1))
        return paired_round(asked, {"base": steady(1), "head": head})

    report = start_gate(gate_of(), places, sides(), GateWatcher(), execute)
    assert verdicts(report) == ["PASS", "REGRESSED"]
    made = Counter((record.cell_id, record.stage) for record in read_pairs(places.folder, gate_of()))
    assert made == {(BOTH[0].id, 1): 7, (BOTH[1].id, 1): 7, (BOTH[1].id, 2): 8}


def test_a_faster_head_is_improved(places: Places):
    report = gate(places, BOTH[0], base=noisy(1, 1), head=noisy(0.9, 2))
    assert (verdicts(report), report.exit_code) == (["IMPROVED"], 0)


def test_noise_that_hides_the_budget_is_inconclusive(places: Places):
    report = gate(places, BOTH[0], base=noisy(1, 1, 8), head=noisy(1, 2, 8))
    assert (verdicts(report), report.exit_code) == (["INCONCLUSIVE"], 3)


@pytest.mark.parametrize("seed", range(4))
def test_noise_alone_regresses_nothing(places: Places, seed: int):
    report = gate(places, BOTH[0], base=noisy(1, seed, 2), head=noisy(1, 100 + seed, 2), seed=seed)
    assert verdicts(report) in (["PASS"], ["INCONCLUSIVE"])


# What stands against judging


@pytest.mark.parametrize(
    ("fault", "words"), [("wrong", "of the signal"), ("nan", "NaN"), ("constant", "same for every")]
)
@pytest.mark.parametrize("side", ["base", "head"])
def test_outputs_of_one_side_that_are_wrong_end_in_1(places: Places, side: str, fault: str, words: str):
    report = gate(places, BOTH[0], **{side: faulty(fault)})
    (found,) = report.verdicts
    assert (found.verdict, report.exit_code) == ("INVALID", 1)
    assert any(reason.startswith(f"{side}: ") and words in reason for reason in found.reasons), found.reasons
    assert len(journal_lines(places.folder)) == 1  # it would only fail again


def test_outputs_that_get_wrong_while_they_are_timed_end_in_1(places: Places):
    report = gate(places, BOTH[0], head=faulty("stale"))
    (found,) = report.verdicts
    assert (found.verdict, report.exit_code) == ("INVALID", 1)
    assert found.reasons[0].startswith("head: after a timed compute block: ")


@pytest.mark.parametrize(("fault", "word"), [("precision", "fp32 was asked"), ("fallback", "cpu was asked")])
def test_something_else_than_what_was_asked_is_invalid(places: Places, fault: str, word: str):
    report = gate(places, BOTH[0], head=faulty(fault))
    (found,) = report.verdicts
    assert (found.verdict, report.exit_code) == ("INVALID", 3)
    assert found.reasons[0].startswith(f"head: {word}")


@pytest.mark.parametrize("rounds", [0, 3])
def test_a_side_that_fails_ends_its_cell_and_no_other_in_5(places: Places, rounds: int):
    broken = BOTH[0].id

    def execute(asked, starters):
        fault = asked.requests["head"].cell_id == broken and asked.requests["head"].round >= rounds
        return paired_round(asked, sides(head=faulty("run") if fault else steady(1)))

    report = start_gate(gate_of(), places, sides(), GateWatcher(), execute)
    assert verdicts(report) == ["INVALID", "PASS"]
    assert report.exit_code == 5
    where = f"head: round {rounds + 1} of stage 1 at open: RuntimeError: the script says that running fails"
    assert report.verdicts[0].reasons == (where,)
    assert Counter(json.loads(line)["cell_id"] for line in journal_lines(places.folder)) == {
        broken: rounds + 1,
        BOTH[1].id: 7,
    }


def test_what_cannot_be_prepared_on_one_side_ends_in_5(places: Places, monkeypatch: pytest.MonkeyPatch):
    def broken(*_):
        raise RuntimeError("no exporter")

    monkeypatch.setattr("vggbench.gate.preparing.materials", broken)
    report = gate(places, BOTH[0])
    assert (verdicts(report), report.exit_code) == (["INVALID"], 5)
    assert report.verdicts[0].reasons[0] == "base: prepare: RuntimeError: no exporter"
    assert journal_lines(places.folder) == []


def test_a_cell_that_one_side_has_not_is_missing_and_ends_in_4(places: Places):
    lacks = {BOTH[1].id: {"head": "no bf16 there"}}
    report = gate(places, lacks=lacks)
    assert (verdicts(report), report.exit_code) == (["PASS"], 4)
    assert [(found.cell_id, found.missing_in) for found in report.missing] == [(BOTH[1].id, "head")]
    assert f"{BOTH[1].title} is not in head: no bf16 there" in report.notes


def test_no_cell_on_both_sides_is_never_green(places: Places):
    report = gate(places, BOTH[0], lacks={BOTH[0].id: {"base": "not yet"}})
    assert (report.verdicts, report.exit_code) == ((), 4)


def test_cells_that_no_side_supports_are_named_and_alone_they_are_nothing(places: Places):
    nowhere = fake_cell(precision="bf16", unsupported="no bf16")
    assert any("is unsupported on both sides: no bf16" in note for note in gate(places, BOTH[0], nowhere).notes)
    other = replace(places, folder=places.folder.parent / "other")
    with pytest.raises(NothingToJudge, match="every cell is unsupported on both sides"):
        gate(other, nowhere)
    assert not other.folder.exists()


def test_an_environment_without_an_exporter_is_told_before_anything_is_written(places: Places):
    info = gate_of(fake_cell(backend="onnxruntime"))
    info = replace(info, sides={"base": BASE, "head": environment(lacking=("onnx", "torch"))})
    with pytest.raises(
        RequestError, match=r"head: /env/bin/python lacks torch onnx; install it there: .* -m pip install"
    ):
        start_gate(info, places, sides(), GateWatcher())
    assert not places.folder.exists()


# Interrupted and resumed


def stopped_after(rounds: int):
    made: list[str] = []

    def execute(asked, starters):
        if len(made) == rounds:
            raise KeyboardInterrupt
        made.append(asked.requests["base"].cell_id)
        return paired_round(asked, starters)

    return execute


@pytest.mark.parametrize("rounds", [0, 5, 17])
def test_an_interrupted_gate_goes_on_to_the_report_of_one_that_was_not(places: Places, rounds: int, tmp_path: Path):
    def both():
        return sides(steady(1), steady(1.1))

    whole = replace(places, folder=tmp_path / "whole")
    expected = start_gate(gate_of(), whole, both(), GateWatcher())
    with pytest.raises(Interrupted) as caught:
        start_gate(gate_of(), places, both(), GateWatcher(), stopped_after(rounds))
    command = f"vggbench gate --resume --output {places.folder} --exports {places.exports}"
    assert str(caught.value) == f"stopped after {rounds} paired rounds; continue with: {command}"
    assert len(journal_lines(places.folder)) == rounds
    with (places.folder / "pairs.jsonl").open("a") as file:
        file.write('{"cell_id": "torn')
    report = resume_gate(places, {"base": BASE, "head": HEAD}, both(), GateWatcher())
    assert report == expected
    assert verdicts(report) == ["REGRESSED", "REGRESSED"]

    def orders(folder: Path):
        return [(json.loads(line)["cell_id"], json.loads(line)["draw"]) for line in journal_lines(folder)]

    assert orders(places.folder) == orders(whole.folder)
    info = read_gate_info(places.folder)
    assert report_of(info, read_pairs(places.folder, info)) == report


def test_a_whole_gate_that_is_resumed_measures_nothing(places: Places):
    report = gate(places)
    watcher = GateWatcher()
    assert resume_gate(places, {"base": BASE, "head": HEAD}, sides(), watcher) == report
    assert not [heard for heard in watcher.heard if heard[0] == "measuring"]


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (
            environment(prefix="/new", distributions={"numpy": "2.1.0", "torch": "2.15.0"}),
            "torch was 2.14.0, is 2.15.0",
        ),
        (replace(HEAD, python="/other/bin/python"), "it was /env/bin/python, is /other/bin/python"),
    ],
)
def test_another_environment_than_it_began_with_is_refused(places: Places, now: Any, words: str):
    gate(places)
    with pytest.raises(RunFolderError, match="head is not the environment that the gate began with") as caught:
        resume_gate(places, {"base": BASE, "head": now}, sides(), GateWatcher())
    assert words in str(caught.value)


def test_a_used_or_held_folder_is_refused(places: Places):
    gate(places, BOTH[0])
    with pytest.raises(RunFolderError, match="holds a gate already; continue it with --resume"):
        gate(places, BOTH[0])
    with FileLock(places.folder / ".lock"), pytest.raises(RunFolderError, match="is in use by another vggbench"):
        resume_gate(places, {"base": BASE, "head": HEAD}, sides(), GateWatcher())


def test_a_folder_without_a_gate_is_refused(places: Places):
    places.folder.mkdir()
    with pytest.raises(RunFolderError, match=r"holds no gate: gate\.json is missing"):
        resume_gate(places, {"base": BASE, "head": HEAD}, sides(), GateWatcher())
