"""Killed at random moments, again and again, by a signal that nothing can be done against.

A few times in the suite, a hundred times by `make kills`. The moments are seeded; what a process is doing then is not,
so every promise has to hold at every moment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from tests.fakes import ARGUMENTS
from tests.killing import WHOLE_RUN, begin, check_whole, finished_lines, held_back, kill_at_random, rounds_of
from vggbench.artefacts.artefact import check_files
from vggbench.artefacts.store import read_artefact
from vggbench.results.run_info import FILE_NAME

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="waits for other processes in Linux's way"),
    pytest.mark.timeout(3600),  # by `make kills`, on a busy machine
]

OFTEN = "VGGBENCH_KILLS" in os.environ
PACE = ("--time-budget-s", "0.5", "--threads", "1")


def killed_and_resumed(folder: Path, exports: Path, plan: tuple[str, ...], *, kills: int, longest_s: float) -> None:
    """Start a run, kill it and go on with it so many times, and let it end; then hold what it left to the promises."""
    moments = Random(20140904)
    places = ("--output", folder, "--exports", exports)
    before, torn, left = b"", 0, 0
    done = 0

    def begin_or_go_on() -> subprocess.Popen[str]:
        return begin("run", *(("--resume",) if (folder / FILE_NAME).exists() else plan), *places)

    while done < kills:
        process = begin_or_go_on()
        done += kill_at_random(process, moments, ("", "preparing", "["), longest_s)
        check_whole(folder)
        after = finished_lines(folder)
        assert after.startswith(before)
        journal = folder / "rounds.jsonl"
        torn += journal.exists() and journal.stat().st_size > len(after)
        left += len(held_back(folder))
        before = after
    with begin_or_go_on() as process:
        _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    check_whole(folder)
    assert finished_lines(folder).startswith(before)
    counts = Counter(rounds_of(folder))
    assert set(counts.values()) == {1}
    assert {path.name for path in folder.iterdir()} == WHOLE_RUN
    print(
        f"{done} kills: {torn} left a torn line, {left} a half-written file; {len(counts)} rounds, each measured once"
    )


def test_a_run_on_the_fake_backend(tmp_path: Path):
    kills = 100 if OFTEN else 10
    rounds = kills // 2
    plan = (*ARGUMENTS, "--backend", "fake", "--rounds", str(rounds), *PACE)
    killed_and_resumed(tmp_path / "run", tmp_path / "exports", plan, kills=kills, longest_s=1.0)
    assert len(rounds_of(tmp_path / "run")) == 2 * rounds
    assert held_back(tmp_path / "exports") == []


def test_a_run_on_real_backends(tmp_path: Path):
    kills, backends = (20, "torch,onnxruntime,openvino") if OFTEN else (2, "onnxruntime,openvino")
    plan = (*ARGUMENTS, "--backend", backends, "--precision", "fp32", "--rounds", "3", *PACE)
    killed_and_resumed(tmp_path / "run", tmp_path / "exports", plan, kills=kills, longest_s=4.0)
    assert len(rounds_of(tmp_path / "run")) == 3 * len(backends.split(","))
    assert held_back(tmp_path / "exports") == []


def test_an_export(tmp_path: Path):
    kills = 30 if OFTEN else 5
    moments = Random(20140904)
    command = ("export", *ARGUMENTS, "--precision", "fp16", "--exports", tmp_path)
    done = left = whole = 0
    while done < kills:
        done += kill_at_random(begin(*command), moments, ("", "[1/1] custom", "[1/1] custom"), 2.5)
        left += len(held_back(tmp_path))
        artefacts = list(tmp_path.glob("*/[!.]*"))
        for folder in artefacts:
            check_files(read_artefact(folder))  # whatever is there under its name is whole
        if len(artefacts) == 3:  # weights, fp32 and fp16: nothing is left to be killed in
            whole += 1
            for folder in artefacts:
                folder.rename(tmp_path / f"{whole}-{folder.name}")
    with begin(*command) as process:
        out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    check_files(read_artefact(Path(out.strip()).parent))
    assert held_back(tmp_path) == []
    print(f"{done} kills: {left} left an unfinished folder, {whole} came after the export was whole")
