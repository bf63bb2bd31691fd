"""The journal of a run: one line a finished round, on disk before the next begins. No torch, no pandas."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from vggbench.errors import RunFolderError
from vggbench.measure.records import RoundRecord

JOURNAL_NAME = "rounds.jsonl"
_RECORD = TypeAdapter(RoundRecord)


class Journal:
    """An append-only file of rounds; a line torn by a crash is dropped when it is opened again.

    Raises `RunFolderError` where the file cannot be read or written; what it holds stays.
    """

    def __init__(self, path: Path) -> None:
        """Open the file for appending, cutting off a torn last line."""
        self._path = path
        with _file_errors(path):
            _cut_torn_line(path)

    def append(self, record: RoundRecord) -> None:
        """Write one line and wait until it is on disk."""
        line = json.dumps(record.to_json(), separators=(",", ":")) + "\n"
        with _file_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def read_journal(path: Path) -> list[RoundRecord]:
    """Return the finished rounds; a torn last line is ignored, any other bad line is a `RunFolderError`."""
    if not path.exists():
        return []
    with _file_errors(path):
        text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    records = [_read_line(path, number, line) for number, line in enumerate(whole.splitlines(), start=1)]
    _refuse_repeated(path, records)
    return records


def _refuse_repeated(path: Path, records: list[RoundRecord]) -> None:
    """A round that counts twice would make an interval narrower than its samples allow."""
    seen: set[tuple[str, int]] = set()
    for number, record in enumerate(records, start=1):
        if (record.cell_id, record.round) in seen:
            raise RunFolderError(
                f"{path}, line {number}: round {record.round + 1} of cell {record.cell_id} stands here twice; "
                "restore the file or start a new run folder"
            )
        seen.add((record.cell_id, record.round))


def _read_line(path: Path, number: int, line: bytes) -> RoundRecord:
    try:
        return _RECORD.validate_json(line, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RunFolderError(
            f"{path}, line {number}: not a round's record ({where or 'line'}: {first['msg']}); "
            "restore the file or start a new run folder"
        ) from None


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    text = path.read_bytes()
    whole = text.rfind(b"\n") + 1
    if whole < len(text):
        os.truncate(path, whole)


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"{path} cannot be read or written: {error.strerror}"
        raise RunFolderError(f"{reason}; put that right and continue with --resume") from None
