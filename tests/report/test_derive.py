from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import fake_cell
from tests.results.made import CELL, info, rounds
from vggbench.errors import RunFolderError
from vggbench.measure.records import RoundRecord
from vggbench.report.derive import derive
from vggbench.results.journal import JOURNAL_NAME, Journal
from vggbench.results.run_info import write_run_info

DERIVED = ("results.csv", "samples.parquet", "summary.md")


def stored(folder: Path, records: list[RoundRecord]) -> Path:
    write_run_info(folder, info(CELL, fake_cell(backend="torch")))
    journal = Journal(folder / JOURNAL_NAME)
    for record in records:
        journal.append(record)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in DERIVED}


@pytest.mark.parametrize("count", [0, 1, 6])
def test_what_is_derived_is_derived_again_to_the_bit(tmp_path: Path, count: int):
    stored(tmp_path, rounds(CELL, [1.0 + number / 7 for number in range(count)]))
    rows = derive(tmp_path)
    first = contents(tmp_path)
    for name in DERIVED:
        (tmp_path / name).write_bytes(b"edited")
    assert derive(tmp_path) == rows
    assert contents(tmp_path) == first


def test_a_torn_line_is_left_to_the_run_that_is_writing_it(tmp_path: Path):
    stored(tmp_path, rounds(CELL, [1.0, 2.0]))
    journal = tmp_path / JOURNAL_NAME
    torn = journal.read_bytes()[:-5]
    journal.write_bytes(torn)
    assert derive(tmp_path)[0].rounds == 1
    assert journal.read_bytes() == torn


def test_a_journal_that_cannot_be_read_overwrites_no_report(tmp_path: Path):
    stored(tmp_path, rounds(CELL, [1.0]))
    derive(tmp_path)
    before = contents(tmp_path)
    (tmp_path / JOURNAL_NAME).write_text("garbage\n")
    with pytest.raises(RunFolderError, match="line 1"):
        derive(tmp_path)
    assert contents(tmp_path) == before
