from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from vggbench.errors import RunFolderError
from vggbench.results.run_folder import LOCK_NAME, discard, held, make_folder, write_whole


def test_a_folder_is_made_with_those_above_it(tmp_path: Path):
    folder = tmp_path / "reports" / "mine"
    assert make_folder(folder)
    assert not make_folder(folder)
    assert folder.is_dir()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "results.csv"
    path.write_text("before")

    def broken(file: Any) -> None:
        file.write(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_whole(path, broken)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_can_be_read_by_others_and_is_flushed_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    flushed: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(stat.S_ISDIR(os.fstat(descriptor).st_mode)))
    path = tmp_path / "summary.md"
    write_whole(path, lambda file: file.write(b"text"))
    assert path.read_text() == "text"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert flushed == [False, True]


def test_where_it_cannot_be_written_is_one_line(tmp_path: Path):
    with pytest.raises(RunFolderError, match="cannot be written: No such file or directory"):
        write_whole(tmp_path / "missing" / "run.json", lambda file: file.write(b""))


def test_a_library_that_says_only_in_words_that_it_cannot_write(tmp_path: Path):
    def broken(_file: Any) -> None:
        raise OSError("error closing file")

    with pytest.raises(RunFolderError, match="cannot be written: error closing file; make room"):
        write_whole(tmp_path / "samples.parquet", broken)


def test_what_a_killed_one_left_half_written_goes_and_nothing_else(tmp_path: Path):
    path = tmp_path / "results.csv"

    def killed(_file: Any) -> None:
        (left,) = tmp_path.iterdir()
        left.rename(tmp_path / (left.name + "x"))  # what clears up after an error does not find it

    with pytest.raises(RunFolderError):
        write_whole(path, killed)
    write_whole(path, lambda file: file.write(b"whole"))
    (tmp_path / "notes.txt").touch()
    assert len(list(tmp_path.iterdir())) == 3
    with held(tmp_path):
        pass
    assert {found.name for found in tmp_path.iterdir()} == {"results.csv", "notes.txt", LOCK_NAME}


def test_what_cannot_be_removed_is_named(tmp_path: Path):
    (tmp_path / ".unfinished-odd").mkdir()
    with pytest.raises(RunFolderError, match=r"/\.unfinished-odd cannot be removed: "), held(tmp_path):
        pass
    with pytest.raises(RunFolderError, match="cannot be removed"), held(tmp_path):  # it is not held any more
        pass


def test_what_somebody_is_writing_stays(tmp_path: Path):
    def while_another_wants_it(file: Any) -> None:
        file.write(b"whole")
        with pytest.raises(RunFolderError, match="is in use by another vggbench"), held(tmp_path):
            pass

    with FileLock(tmp_path / LOCK_NAME):
        write_whole(tmp_path / "results.csv", while_another_wants_it)
    assert (tmp_path / "results.csv").read_text() == "whole"


def test_a_folder_that_was_made_for_nothing_goes(tmp_path: Path):
    folder = tmp_path / "run"
    made = make_folder(folder)
    with held(folder):
        (folder / "run.json").touch()
        discard(folder, "run.json", made=made)
    assert not folder.exists()


@pytest.mark.parametrize("made", [True, False])
def test_what_was_there_stays_in_a_folder(tmp_path: Path, made: bool):
    (tmp_path / "run.json").touch()
    (tmp_path / "notes.txt").touch()
    discard(tmp_path, "run.json", made=made)
    assert [found.name for found in tmp_path.iterdir()] == ["notes.txt"]
