"""Two rows of the same thing agree, or one of them said why not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fakes import InlineWorker, fake_cell
from tests.meta.repository import benchmark
from tests.results.made import CELL, info, record, rounds
from vggbench.measure.records import Failure, RoundRecord
from vggbench.plan.cells import replicate
from vggbench.results.journal import JOURNAL_NAME, Journal
from vggbench.results.run_info import write_run_info

aa = benchmark("aa")

HERE = (1.0, 1.02, 0.98, 1.01, 0.99, 1.005)
NEAR = (1.01, 1.03, 0.99, 1.02, 1.0, 1.015)
AWAY = (1.1, 1.12, 1.08, 1.11, 1.09, 1.105)
MODES = (1.5, 2.0, 1.51, 1.49, 2.01, 1.505)
FIRST, SECOND = replicate([CELL], 2)


def stored(folder: Path, records: Sequence[RoundRecord], *cells) -> Path:
    write_run_info(folder, info(*cells))
    journal = Journal(folder / JOURNAL_NAME)
    for found in records:
        journal.append(found)
    return folder


def pair(folder: Path, first: Sequence[float], second: Sequence[float]) -> Path:
    return stored(folder, [*rounds(FIRST, first), *rounds(SECOND, second)], FIRST, SECOND)


@pytest.mark.parametrize(
    ("second", "verdict", "code", "ratio"),
    [
        (HERE, "overlap", 0, "1.0000"),
        (NEAR, "overlap", 0, "1.0100"),
        (AWAY, "apart", 1, "1.1000"),
        (MODES, "apart, and said bimodal", 0, "1.7"),
    ],
)
def test_a_pair_overlaps_or_says_why_not(tmp_path: Path, capsys, second, verdict: str, code: int, ratio: str):
    assert aa.main([str(pair(tmp_path, HERE, second))]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| custom fake fault=none fp32 batch 2 | 1.00 ± 0.02 |")
    assert lines[2].endswith(f"| {verdict} |")
    assert f"| {ratio}" in lines[2]
    overlap, good = int(verdict == "overlap"), 1 - code
    assert lines[-1] == f"{overlap} of 1 pairs overlap; {good} do or said why not ({100.0 * good:.1f} %)"


def test_a_row_without_an_interval_is_no_agreement(tmp_path: Path, capsys):
    failure = Failure(stage="open", status="failed", reason="it did")
    records = [*rounds(FIRST, HERE), record(SECOND, 0, failure=failure)]
    assert aa.main([str(stored(tmp_path, records, FIRST, SECOND))]) == 1
    assert "|  |  | no interval |" in capsys.readouterr().out


@pytest.mark.parametrize(("apart", "code"), [(1, 0), (2, 1)])
def test_nineteen_of_twenty_pairs_are_enough(tmp_path: Path, capsys, apart: int, code: int):
    cells = [fake_cell(batch_size=size) for size in range(1, 21)]
    replicas = replicate(cells, 2)
    far = {cell.id for cell in replicas[: 2 * apart] if cell.replica == 2}
    records = [found for cell in replicas for found in rounds(cell, AWAY if cell.id in far else HERE)]
    assert aa.main([str(stored(tmp_path, records, *replicas))]) == code
    assert capsys.readouterr().out.endswith(f"({100 * (20 - apart) / 20:.1f} %)\n")


def test_three_replicas_are_three_pairs(tmp_path: Path, capsys):
    cells = replicate([CELL], 3)
    records = [found for cell in cells for found in rounds(cell, HERE)]
    assert aa.main([str(stored(tmp_path, records, *cells))]) == 0
    assert "3 of 3 pairs overlap" in capsys.readouterr().out


def test_without_replicas_there_is_nothing_to_judge(tmp_path: Path, capsys):
    assert aa.main([str(stored(tmp_path, rounds(CELL, HERE), CELL))]) == 4
    assert capsys.readouterr().err == "error: no cell was measured twice; make a run with --replicas 2\n"


def test_where_there_is_no_run(tmp_path: Path, capsys):
    assert aa.main([str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_the_backend_that_does_nothing_is_measured_twice(inline_workers, monkeypatch, capsys):
    monkeypatch.setattr(aa, "WorkerClient", InlineWorker)
    code = aa.main(["--null", "6"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| nothing null fp32 batch 1 | 0.0")
    assert code == int(lines[2].endswith("| apart |"))
    assert lines[-1].startswith(f"{int('overlap' in lines[2])} of 1 pairs overlap")


@pytest.mark.parametrize("arguments", [[], ["somewhere", "--null", "6"]])
def test_either_a_run_or_the_backend_that_does_nothing(arguments: list[str]):
    with pytest.raises(SystemExit, match="2"):
        aa.main(arguments)
