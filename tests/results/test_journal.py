from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.results.made import CELL, failed_parity, record, rounds, session
from vggbench.errors import RunFolderError
from vggbench.measure.records import Failure, RoundRecord
from vggbench.results.journal import Journal, read_journal

RECORDS = [
    *rounds(CELL, [1.0, 1.5]),
    record(CELL, 2, session(CELL, parity=failed_parity('a "quoted" reason\nof two lines \u2028 é'))),
    record(CELL, 3, failure=Failure(stage="open", status="timeout", reason="no answer within 600 s")),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rounds.jsonl"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("journal") / "rounds.jsonl"
    journal = Journal(path)
    for item in RECORDS:
        journal.append(item)
    return path.read_bytes()


def test_what_was_written_is_read_again(path: Path, whole: bytes):
    path.write_bytes(whole)
    assert read_journal(path) == RECORDS


def test_a_line_a_round(whole: bytes):
    assert whole.count(b"\n") == len(RECORDS) == len(whole.decode().split("\n")) - 1


def test_a_run_that_has_not_begun_has_no_rounds(path: Path):
    Journal(path)
    assert not path.exists()
    assert read_journal(path) == []


def test_a_line_is_on_disk_before_the_next_round_begins(path: Path, monkeypatch: pytest.MonkeyPatch):
    sizes = []

    def flush(descriptor: int) -> None:
        state = os.fstat(descriptor)
        sizes.append("name" if stat.S_ISDIR(state.st_mode) else state.st_size)

    monkeypatch.setattr(os, "fsync", flush)
    journal = Journal(path)
    journal.append(RECORDS[0])
    first = path.stat().st_size
    journal.append(RECORDS[1])
    assert sizes == [first, "name", path.stat().st_size]


def test_a_torn_last_line_is_dropped(path: Path, whole: bytes):
    path.write_bytes(whole[:-10])
    assert read_journal(path) == RECORDS[:-1]
    journal = Journal(path)
    assert whole.startswith(path.read_bytes())
    journal.append(RECORDS[-1])
    assert path.read_bytes() == whole


def test_a_file_that_is_whole_is_not_touched(path: Path, whole: bytes):
    path.write_bytes(whole)
    before = path.stat()
    Journal(path)
    assert path.stat().st_mtime_ns == before.st_mtime_ns


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(data=st.data())
def test_cut_anywhere_what_was_finished_is_kept_and_the_rest_can_follow(path: Path, whole: bytes, data):
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")
    assert read_journal(path) == RECORDS[:kept]
    journal = Journal(path)
    for item in RECORDS[kept:]:
        journal.append(item)
    assert path.read_bytes() == whole


@pytest.mark.slow
def test_cut_at_every_byte(path: Path):
    journal = Journal(path)
    for item in RECORDS[-1:] * 3:
        journal.append(item)
    whole = path.read_bytes()
    ends = [number for number, byte in enumerate(whole, start=1) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        Journal(path)
        assert path.stat().st_size == max([0, *(end for end in ends if end <= cut)])


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"null",
        b"[1]",
        b"garbage",
        b"\xff\xfe",
        b'{"cell_id": 1}',
        b"NaN",
        b"[" * 5000,
    ],
)
def test_a_corrupt_line_before_the_last_is_an_error_that_names_it(path: Path, whole: bytes, line: bytes):
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], line + b"\n", *lines[2:]]))
    with pytest.raises(RunFolderError) as caught:
        read_journal(path)
    assert f"{path}, line 2: not a round's record" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "where"),
    [
        (b'"round":1', b'"round":"1"', "round"),
        (b'"samples_ns":[7500000]', b'"samples_ns":[7500000.5]', "sessions.0.blocks.0.samples_ns.0"),
        (b'"kind":"warmup"', b'"kind":"nap"', "sessions.0.blocks.0.kind"),
        (b'"failure":null', b'"failed":null', "failure"),
    ],
)
def test_a_field_of_another_type_is_named(path: Path, whole: bytes, before: bytes, after: bytes, where: str):
    lines = whole.splitlines(keepends=True)
    assert before in lines[1]
    path.write_bytes(lines[0] + lines[1].replace(before, after, 1))
    with pytest.raises(RunFolderError) as caught:
        read_journal(path)
    assert f"line 2: not a round's record ({where}: " in str(caught.value)


def test_a_failure_of_no_known_status_is_named(path: Path, whole: bytes):
    path.write_bytes(whole.replace(b'"status":"timeout"', b'"status":""'))
    with pytest.raises(RunFolderError, match="status is '', which no failure has; there are failed, timeout"):
        read_journal(path)


def test_a_journal_that_cannot_be_used_is_one_line(tmp_path: Path):
    folder = tmp_path / "rounds.jsonl"
    folder.mkdir()
    for use in (read_journal, Journal):
        with pytest.raises(RunFolderError, match=r"cannot be read or written: Is a directory; .*--resume"):
            use(folder)


def test_a_full_disk_is_one_line(path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFolderError, match="No space left on device"):
        Journal(path).append(RECORDS[0])


def test_a_round_that_stands_twice_is_refused(path: Path, whole: bytes):
    path.write_bytes(whole + whole.splitlines(keepends=True)[0])
    with pytest.raises(
        RunFolderError,
        match=r"line 5: round 1 of cell .* as attempt 1 after 1, and only what failed",
    ):
        read_journal(path)


FAILED = RECORDS[3]
AGAIN = replace(RECORDS[1], round=FAILED.round, attempt=2)


def append(path: Path, *items: RoundRecord) -> None:
    journal = Journal(path)
    for item in items:
        journal.append(item)


def test_the_last_attempt_at_a_round_that_failed_counts_and_the_line_before_stays(path: Path):
    append(path, FAILED, RECORDS[0], AGAIN)
    assert read_journal(path) == [RECORDS[0], AGAIN]
    assert path.read_text().count("\n") == 3


def test_a_round_may_fail_again_and_again(path: Path):
    append(path, FAILED, replace(FAILED, attempt=2), replace(AGAIN, attempt=3))
    assert read_journal(path) == [replace(AGAIN, attempt=3)]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([AGAIN], "line 1: .* as attempt 2 after none"),
        ([FAILED, replace(AGAIN, attempt=3)], "line 2: .* as attempt 3 after 1"),
        ([FAILED, replace(AGAIN, attempt=1)], "line 2: .* as attempt 1 after 1"),
        ([FAILED, AGAIN, replace(AGAIN, attempt=3)], "line 3: .* as attempt 3 after 2, and only what failed"),
    ],
)
def test_attempts_that_do_not_follow_each_other_are_refused(path: Path, items: list[RoundRecord], words: str):
    append(path, *items)
    with pytest.raises(RunFolderError, match=words):
        read_journal(path)


def test_a_journal_from_before_there_were_attempts(path: Path, whole: bytes):
    path.write_bytes(whole.replace(b',"attempt":1', b""))
    assert b"attempt" not in path.read_bytes()
    assert read_journal(path) == RECORDS
