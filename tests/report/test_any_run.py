"""A run's folder in which something else stands than was written: a report, or one line that says why not."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from tests.cases import edited, many, other_value
from tests.fakes import fake_cell
from tests.results.made import CELL, block, failed_parity, info, prepared, record, session
from vggbench.errors import VggbenchError
from vggbench.measure.records import Failure
from vggbench.report.derive import derive
from vggbench.report.frame import frame, sample_frame
from vggbench.report.markdown import summary
from vggbench.results.journal import JOURNAL_NAME, Journal, read_journal
from vggbench.results.rows import derive_rows
from vggbench.results.run_info import FILE_NAME, read_run_info, write_run_info

OTHER = fake_cell(precision="bf16", latency_ms="1/2", batch_size=3)
BLOCKS = (
    block("warmup", 3.0, 2.0, stop_reason="limit"),
    block("compute", 2.0, 2.1),
    block("end_to_end", 2.5),
    block("throughput", 4.0),
)
RECORDS = [
    record(CELL, 0, session(CELL, *BLOCKS)),
    record(OTHER, 0, session(OTHER, parity=failed_parity())),
    record(CELL, 1, failure=Failure(stage="open", status="timeout", reason="no answer within 600 s")),
]
HEAD = info(CELL, OTHER, prepared={CELL.id: prepared(CELL), OTHER.id: prepared(OTHER)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture
def run(folder: Path) -> Path:
    """The run's folder, whole."""
    write_run_info(folder, HEAD)
    (folder / JOURNAL_NAME).write_text("".join(json.dumps(item.to_json()) + "\n" for item in RECORDS))
    return folder


def judged(run: Path) -> None:
    """Make all that a report has of a run's files but the files, or check that the error is one line."""
    try:
        head, records = read_run_info(run), read_journal(run / JOURNAL_NAME)
        rows = derive_rows(head, records)
        summary(head, rows)
        frame(rows)
        sample_frame(records)
    except VggbenchError as error:
        assert error.exit_code == 2  # noqa: PT017 - either is right
        assert len(str(error).splitlines()) == 1  # noqa: PT017


def test_what_is_changed_below_is_a_run(run: Path, tmp_path: Path):
    journal = Journal(tmp_path / JOURNAL_NAME)
    for item in RECORDS:
        journal.append(item)
    write_run_info(tmp_path, HEAD)
    assert (
        [row.status for row in derive(tmp_path)] == [row.status for row in derive(run)] == ["timeout", "parity_failed"]
    )


@pytest.mark.slow
@many
@given(other_value([item.to_json() for item in RECORDS]))
def test_any_other_value_in_a_journal(run: Path, lines: list[Any]):
    (run / JOURNAL_NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))
    judged(run)


@pytest.mark.slow
@many
@given(edited("".join(json.dumps(item.to_json()) + "\n" for item in RECORDS).encode()))
def test_any_other_text_in_a_journal(run: Path, content: bytes):
    (run / JOURNAL_NAME).write_bytes(content)
    judged(run)


@pytest.mark.slow
@many
@given(other_value(asdict(HEAD)))
def test_any_other_value_in_the_head(run: Path, head: dict[str, Any]):
    (run / FILE_NAME).write_text(json.dumps(head))
    judged(run)


@pytest.mark.slow
@many
@given(edited(json.dumps(asdict(HEAD), indent=1).encode()))
def test_any_other_text_in_the_head(run: Path, content: bytes):
    (run / FILE_NAME).write_bytes(content)
    judged(run)
