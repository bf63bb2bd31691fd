"""`vggbench baseline refresh`: runs that are kept, and the trace of who kept them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from tests.cli.conftest import CommandLine
from tests.fakes import fake_cell
from tests.results.made import info, timed
from vggbench.gate.baselines import HISTORY_NAME, machine_name, read_history
from vggbench.measure.records import Failure
from vggbench.results.journal import JOURNAL_NAME, Journal
from vggbench.results.run_info import RunInfo, write_run_info

CELL = fake_cell()
WHO = ("--by", "A. Person", "--why", "the machine got a new driver")


def stored(folder: Path, started_at: str = "2026-01-02T03:04:05+00:00", failure: Failure | None = None) -> Path:
    """Make a run of six rounds that never took place."""
    folder.mkdir(parents=True)
    write_run_info(folder, replace(info(CELL), started_at=started_at))
    journal = Journal(folder / JOURNAL_NAME)
    for number in range(6):
        journal.append(replace(timed(CELL, number, 10.0 + number / 100), failure=failure))
    (folder / "summary.md").write_text("# a run\n")
    (folder / "samples.parquet").write_bytes(b"large")
    return folder


@pytest.fixture
def baselines(tmp_path: Path) -> tuple[str, str]:
    return ("--baselines", str(tmp_path / "baselines"))


def test_a_run_is_kept_with_who_when_and_why(command_line: CommandLine, tmp_path: Path, baselines: tuple[str, str]):
    said = command_line("baseline", "refresh", stored(tmp_path / "run"), *WHO, *baselines)
    assert said.code == 0, said.err
    machine = tmp_path / "baselines" / "a-processor-2-threads"
    kept = machine / "2026-01-02T03-04-05-00-00"
    assert {path.name for path in kept.iterdir()} == {"run.json", "rounds.jsonl", "summary.md"}
    (noted,) = read_history(machine)
    assert (noted.by, noted.why, noted.added, noted.removed) == ("A. Person", WHO[3], kept.name, ())
    assert noted.at.startswith("20")
    assert "1 runs are this machine's baselines; a comparison decides from 5 up" in said.out


def test_the_oldest_make_room_and_the_history_keeps_their_names(
    command_line: CommandLine, tmp_path: Path, baselines: tuple[str, str]
):
    for day in range(1, 8):
        run = stored(tmp_path / f"run{day}", f"2026-01-0{day}T00:00:00+00:00")
        assert command_line("baseline", "refresh", run, *WHO, *baselines, "--machine", "m1", "--keep", "5").code == 0
    machine = tmp_path / "baselines" / "m1"
    there = sorted(path.name for path in machine.iterdir() if path.is_dir())
    assert there == [f"2026-01-0{day}T00-00-00-00-00" for day in range(3, 8)]
    history = read_history(machine)
    assert [noted.removed for noted in history[5:]] == [("2026-01-01T00-00-00-00-00",), ("2026-01-02T00-00-00-00-00",)]
    assert len((machine / HISTORY_NAME).read_text().splitlines()) == 7


def test_git_says_who_where_nothing_else_does(
    command_line: CommandLine, tmp_path: Path, baselines: tuple[str, str], monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "config").write_text("[user]\nname = B. Else\nemail = b@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.chdir(tmp_path)
    command_line("baseline", "refresh", stored(tmp_path / "run"), "--why", "first", *baselines)
    (machine,) = (tmp_path / "baselines").iterdir()
    assert read_history(machine)[0].by == "B. Else <b@example.org>"


def test_without_a_name_nothing_is_kept(
    command_line: CommandLine, tmp_path: Path, baselines: tuple[str, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("vggbench.gate.baselines._git_setting", lambda _name: "")
    said = command_line("baseline", "refresh", stored(tmp_path / "run"), "--why", "first", *baselines)
    assert (said.code, said.message) == (2, "vggbench: nothing says who refreshes the baseline: give --by")
    assert not (tmp_path / "baselines").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--by", "A", "--why", " "), "nothing says why the baseline is refreshed: give --why"),
        (("--by", "A"), "Missing option '--why'"),
        ((*WHO, "--keep", "4"), "--keep is 4; a comparison needs 5 base runs or more"),
        ((*WHO, "--machine", "../up"), "--machine '../up' is no folder's name"),
    ],
)
def test_a_wrong_request_is_2(
    command_line: CommandLine, tmp_path: Path, baselines: tuple[str, str], arguments: tuple[str, ...], words: str
):
    said = command_line("baseline", "refresh", stored(tmp_path / "run"), *arguments, *baselines)
    assert said.code == 2
    assert words in said.message
    assert not (tmp_path / "baselines").exists()


def test_the_same_run_is_kept_once(command_line: CommandLine, tmp_path: Path, baselines: tuple[str, str]):
    run = stored(tmp_path / "run")
    command_line("baseline", "refresh", run, *WHO, *baselines)
    said = command_line("baseline", "refresh", run, *WHO, *baselines)
    assert said.code == 2
    assert "is there already: this run is a baseline of that machine" in said.message


def test_a_run_without_figures_is_no_baseline(command_line: CommandLine, tmp_path: Path, baselines: tuple[str, str]):
    failed = stored(tmp_path / "run", failure=Failure(stage="open", status="failed", reason="gone"))
    said = command_line("baseline", "refresh", failed, *WHO, *baselines)
    assert said.code == 4
    assert "is no baseline: 1 of 1 rows are failed; `vggbench report" in said.message


def test_no_run_and_a_held_folder_are_2(command_line: CommandLine, tmp_path: Path, baselines: tuple[str, str]):
    assert "holds no run" in command_line("baseline", "refresh", tmp_path, *WHO, *baselines).message
    machine = tmp_path / "baselines" / "m1"
    machine.mkdir(parents=True)
    with FileLock(machine / ".lock"):
        said = command_line("baseline", "refresh", stored(tmp_path / "run"), *WHO, *baselines, "--machine", "m1")
    assert (said.code, "is in use by another vggbench" in said.message) == (2, True)


def test_a_disk_that_is_full_leaves_nothing_half_kept(
    command_line: CommandLine, tmp_path: Path, baselines: tuple[str, str], monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copy2", full)
    said = command_line("baseline", "refresh", stored(tmp_path / "run"), *WHO, *baselines)
    assert said.code == 2
    assert "cannot be written: No space left on device" in said.message
    (machine,) = (tmp_path / "baselines").iterdir()
    assert [path.name for path in machine.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("Intel(R) Xeon(R) Processor @ 2.60GHz", "intel-xeon-processor-2-60ghz-2-threads"),
        ("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3-2-threads"),
        ("", "cpu-2-threads"),
    ],
)
def test_a_machine_is_named_after_its_device(device: str, name: str):
    run: RunInfo = replace(info(CELL), device_name=device)
    assert machine_name(run) == name


def test_the_history_is_one_json_object_a_line(command_line: CommandLine, tmp_path: Path, baselines: tuple[str, str]):
    command_line("baseline", "refresh", stored(tmp_path / "run"), *WHO, *baselines, "--machine", "m1")
    (line,) = (tmp_path / "baselines" / "m1" / HISTORY_NAME).read_text().splitlines()
    assert set(json.loads(line)) == {"at", "by", "why", "added", "removed"}


def test_a_comparison_takes_a_machines_folder_without_what_a_kill_left_there(
    command_line: CommandLine, tmp_path: Path, baselines: tuple[str, str]
):
    for day in range(1, 6):
        run = stored(tmp_path / f"run{day}", f"2026-01-0{day}T00:00:00+00:00")
        command_line("baseline", "refresh", run, *WHO, *baselines, "--machine", "m1")
    machine = tmp_path / "baselines" / "m1"
    stored(machine / ".unfinished-2026-01-06")
    said = command_line("compare", machine, stored(tmp_path / "new", "2026-01-07T00:00:00+00:00"), "--format", "json")
    assert said.code == 0, said.err
    document = json.loads(said.out)
    assert document["base"].count(str(machine)) == 5
    assert [cell["verdict"] for cell in document["cells"]] == ["PASS"]
    later = stored(tmp_path / "later", "2026-01-08T00:00:00+00:00")
    assert command_line("baseline", "refresh", later, *WHO, *baselines, "--machine", "m1").out.count("6 runs are") == 1
