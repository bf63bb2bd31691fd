from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import fake_cell, fake_plan
from tests.meta.repository import ROOT
from tests.results.made import CELL, info, rounds
from tests.results.test_statuses import CASES
from tests.running import TWO, start
from vggbench.errors import RunFolderError
from vggbench.measure.records import RoundRecord
from vggbench.measure.saturation import saturate
from vggbench.measure.validity import STATUSES
from vggbench.plan.cells import replicate
from vggbench.report.derive import derive, derive_again
from vggbench.results.journal import JOURNAL_NAME, Journal
from vggbench.results.run_info import write_run_info
from vggbench.runner import Places, plan_ceilings

SAMPLE = ROOT / "reports" / "two-core-cpu"

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


@pytest.mark.slow
def test_a_run_that_was_measured_is_derived_again_to_the_bit(inline_workers, tmp_path: Path, fake_exports: Path):
    plan = fake_plan(*replicate(TWO, 2), fake_cell(fault="open"), fake_cell(unsupported="not here"), rounds=6)
    places = Places(folder=tmp_path / "run", exports=fake_exports)
    rows = start(plan, places, gauge=plan_ceilings, search=saturate)
    first = contents(places.folder)
    for name in DERIVED:
        (places.folder / name).unlink()
    assert derive_again(places.folder) == rows
    assert contents(places.folder) == first


def test_a_run_with_every_status_is_derived_again_to_the_bit(tmp_path: Path):
    cells = [fake_cell(latency_ms=str(number)) for number in range(1, len(CASES) + 1)]
    nowhere = fake_cell(unsupported="not here", precision="bf16")
    write_run_info(tmp_path, info(*cells, nowhere))
    journal = Journal(tmp_path / JOURNAL_NAME)
    for cell, (_status, records, _words) in zip(cells, CASES, strict=True):
        for record in records:
            journal.append(replace(record, cell_id=cell.id))
    rows = derive(tmp_path)
    assert {row.status for row in rows} == {*STATUSES}
    first = contents(tmp_path)
    assert derive(tmp_path) == rows
    assert contents(tmp_path) == first


def test_the_committed_run_is_derived_again_to_the_bit(tmp_path: Path):
    shutil.copytree(SAMPLE, tmp_path / "run")
    rows = derive(tmp_path / "run")
    first = contents(tmp_path / "run")
    assert derive(tmp_path / "run") == rows
    assert contents(tmp_path / "run") == first


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
