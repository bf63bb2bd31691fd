"""The journal of a run: one line a finished round, on disk before the next begins. No torch, no pandas."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter

from vggbench.artefacts.store import flush
from vggbench.errors import RunFolderError
from vggbench.measure.records import RoundRecord
from vggbench.plan import Plan
from vggbench.results.heads import REMEDY, read_line

JOURNAL_NAME = "rounds.jsonl"
_RECORD = TypeAdapter(RoundRecord)


class Recorded(Protocol):
    """What a line of a journal is made of."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        ...


class Journal:
    """An append-only file of rounds; a line torn by a crash is dropped when it is opened again.

    Raises `RunFolderError` where the file cannot be read or written; what it holds stays.
    """

    def __init__(self, path: Path) -> None:
        """Open the file for appending, cutting off a torn last line."""
        self._path = path
        with file_errors(path):
            cut_torn_line(path)

    def append(self, record: Recorded) -> None:
        """Write one line and wait until it is on disk."""
        line = json.dumps(record.to_json(), separators=(",", ":")) + "\n"
        with file_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
            if file.tell() == len(line):  # the first one: the file's name is new too
                flush(self._path.parent)


def read_journal(path: Path) -> list[RoundRecord]:
    """Return the finished rounds, each by its last attempt, in the order in which these were made.

    A torn last line is ignored, any other bad line is a `RunFolderError`.
    """
    if not path.exists():
        return []
    records = [
        read_line(path, number, line, _RECORD, "a round's record")
        for number, line in enumerate(whole_lines(path), start=1)
    ]
    return _last_attempts(path, records)


def whole_lines(path: Path) -> list[bytes]:
    """Return a journal's lines, without one that a crash has torn; `RunFolderError` if it cannot be read."""
    with file_errors(path):
        text = path.read_bytes()
    return text[: text.rfind(b"\n") + 1].splitlines()


def read_rounds(folder: Path, plan: Plan) -> list[RoundRecord]:
    """Return the finished rounds of a run's folder; `RunFolderError` also for one that the run's plan does not have."""
    path = folder / JOURNAL_NAME
    records = read_journal(path)
    planned = {cell.id for cell in plan.cells}
    for record in records:
        if record.cell_id not in planned or record.round not in range(plan.rounds):
            raise RunFolderError(
                f"{path}: round {record.round + 1} of cell {record.cell_id} is not in the plan of run.json, which has "
                f"{len(planned)} cells and {plan.rounds} rounds; {REMEDY}"
            )
    return records


def _last_attempts(path: Path, records: list[RoundRecord]) -> list[RoundRecord]:
    """A round that counts twice would make an interval narrower than its samples allow."""
    last: dict[tuple[str, int], RoundRecord] = {}
    for number, record in enumerate(records, start=1):
        before = last.pop((record.cell_id, record.round), None)
        if not _may_follow(before, record):
            raise RunFolderError(
                f"{path}, line {number}: round {record.round + 1} of cell {record.cell_id} stands here as attempt "
                f"{record.attempt} after {before.attempt if before else 'none'}, and only what failed is tried again; "
                f"{REMEDY}"
            )
        last[record.cell_id, record.round] = record
    return list(last.values())


def _may_follow(before: RoundRecord | None, record: RoundRecord) -> bool:
    if before is None:
        return record.attempt == 1
    return before.failure is not None and record.attempt == before.attempt + 1


def cut_torn_line(path: Path) -> None:
    """Cut off what stands behind the last whole line."""
    if not path.exists():
        return
    text = path.read_bytes()
    whole = text.rfind(b"\n") + 1
    if whole < len(text):
        os.truncate(path, whole)


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Let what a file's system says be a `RunFolderError`."""
    try:
        yield
    except OSError as error:
        reason = f"{path} cannot be read or written: {error.strerror}"
        raise RunFolderError(f"{reason}; put that right and continue with --resume") from None
