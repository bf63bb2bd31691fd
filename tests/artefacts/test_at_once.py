"""The same artefact wanted by several at once, and artefacts that others are writing."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import vggbench
from tests.artefacts.test_store import REQUEST, Writer
from tests.fakes import ARGUMENTS
from tests.killing import begin, held_back
from vggbench.artefacts.artefact import check_files
from vggbench.artefacts.store import prepare, read_artefact

UNDER_WAY = """
import sys
from pathlib import Path
from tests.artefacts.test_store import REQUEST, Writer
from vggbench.artefacts.store import prepare

def write(folder):
    (folder / "a.bin").write_bytes(b"half")
    print("half", flush=True)
    sys.stdin.read()
    return Writer()(folder)

prepare(REQUEST, Path(sys.argv[1]), write)
"""
TINY = {"config": "8,M,16,M", "input_size": 32, "num_classes": 5, "classifier_width": 16}


def test_many_threads_write_once_and_agree(tmp_path: Path):
    write = Writer()
    together = threading.Barrier(16)

    def want(_number: int) -> str:
        together.wait()
        return prepare(REQUEST, tmp_path, write).sha256

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(want, range(16)))) == 1
    assert write.calls == 1
    check_files(read_artefact(tmp_path / REQUEST.folder))


def test_an_export_under_way_is_not_taken_for_one_that_was_killed(tmp_path: Path):
    other = replace(REQUEST, material={"n": 2})  # in the same folder, behind the same lock
    write = Writer()
    command = [sys.executable, "-c", UNDER_WAY, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as live:
        assert live.stdout is not None
        assert live.stdout.readline() == "half\n"
        waiting = threading.Thread(target=prepare, args=(other, tmp_path, write))
        waiting.start()
        waiting.join(timeout=0.5)
        assert waiting.is_alive()
        assert write.calls == 0
        (unfinished,) = held_back(tmp_path)
        assert (unfinished / "a.bin").read_bytes() == b"half"
        live.communicate("")
    waiting.join(timeout=60)
    assert live.returncode == 0
    for request in (REQUEST, other):
        check_files(read_artefact(tmp_path / request.folder))
    assert held_back(tmp_path) == []


@pytest.mark.slow
def test_two_commands_that_export_the_same_end_with_the_same_files(tmp_path: Path):
    both = [begin("export", *ARGUMENTS, "--exports", tmp_path) for _ in range(2)]
    answers = [process.communicate(timeout=280) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    (path,) = {out for out, _ in answers}
    check_files(read_artefact(Path(path.strip()).parent))
    assert held_back(tmp_path) == []
    assert len(list(tmp_path.glob("custom/[!.]*"))) == 2  # weights and ONNX


@pytest.mark.slow
def test_threads_that_export_the_same_end_with_the_same_files(tmp_path: Path):
    with ThreadPoolExecutor(8) as pool:
        artefacts = list(pool.map(lambda _: vggbench.export(exports=tmp_path, **TINY), range(8)))
    assert len({artefact.sha256 for artefact in artefacts}) == 1
    check_files(artefacts[0])
    assert held_back(tmp_path) == []


@pytest.mark.slow
def test_threads_that_export_different_networks_get_what_each_would_alone(tmp_path: Path):
    def export(folder: Path, classes: int) -> str:
        return vggbench.export(exports=folder, **{**TINY, "num_classes": classes}).sha256

    counts = range(2, 5)
    alone = [export(tmp_path / "alone", classes) for classes in counts]
    with ThreadPoolExecutor(len(counts)) as pool:
        together = list(pool.map(lambda classes: export(tmp_path / str(classes), classes), counts))
    assert together == alone
