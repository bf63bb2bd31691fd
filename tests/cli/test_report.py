"""`vggbench report`: a run's tables, derived again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from filelock import FileLock

from tests.cli.conftest import CommandLine
from tests.fakes import fake_cell
from tests.results.made import CELL, failed_parity, info, record, rounds, session
from vggbench.results.columns import COLUMNS
from vggbench.results.journal import JOURNAL_NAME, Journal
from vggbench.results.run_info import write_run_info

TORCH = fake_cell(backend="torch")
DERIVED = ("results.csv", "summary.md", "samples.parquet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of two cells with the speed-up of one over the other, and a third whose outputs were wrong."""
    wrong = fake_cell(fault="wrong")
    write_run_info(tmp_path, info(CELL, TORCH, wrong))
    journal = Journal(tmp_path / JOURNAL_NAME)
    latencies = [2.0, 2.1, 2.2, 2.3, 2.4, 2.5]
    made = [*rounds(CELL, latencies), *rounds(TORCH, [3 * latency for latency in latencies])]
    for item in [*made, record(wrong, 0, session(wrong, parity=failed_parity()))]:
        journal.append(item)
    return tmp_path


def test_the_table_is_printed_best_first_with_the_speed_up(command_line: CommandLine, folder: Path):
    said = command_line("report", folder)
    assert said.code == 0
    _, _, first, second, third, *reasons = said.out.splitlines()
    assert first.split()[1] == "fake"
    assert "2.2 ± 0.3" in first
    assert "3.00x" in first
    assert "1.00x" in second
    assert third.split()[-1] == "parity_failed"
    assert reasons[-1].endswith("parity_failed: the error is 0.5 of the signal")


def test_everything_is_written_again_to_the_bit(command_line: CommandLine, folder: Path):
    command_line("report", folder)
    first = {name: (folder / name).read_bytes() for name in DERIVED}
    for name in DERIVED:
        (folder / name).unlink()
    command_line("report", folder)
    assert {name: (folder / name).read_bytes() for name in DERIVED} == first


def test_json(command_line: CommandLine, folder: Path):
    said = command_line("report", folder, "--json")
    rows = json.loads(said.out)
    assert [list(row) for row in rows] == [list(COLUMNS)] * 3
    assert [row["speedup"] for row in rows] == [pytest.approx(3), pytest.approx(1), None]


def test_a_folder_without_a_run(command_line: CommandLine, tmp_path: Path):
    said = command_line("report", tmp_path)
    assert (said.code, said.message) == (2, f"vggbench: {tmp_path} holds no run: run.json is missing")
    assert list(tmp_path.iterdir()) == []


def test_a_journal_with_a_bad_line(command_line: CommandLine, folder: Path):
    journal = folder / JOURNAL_NAME
    journal.write_text("no\n" + journal.read_text())
    said = command_line("report", folder)
    assert said.code == 2
    assert "line 1: not a round's record" in said.message
    assert not (folder / "results.csv").exists()


def test_a_run_that_is_being_written_is_left_alone(command_line: CommandLine, folder: Path):
    with FileLock(folder / ".lock"):
        said = command_line("report", folder)
    assert said.code == 2
    assert said.message == f"vggbench: {folder} is in use by another vggbench; wait for it or name another folder"
    assert not (folder / "results.csv").exists()
