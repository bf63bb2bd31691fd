"""A real `vggbench run`, with processes of its own, that is stopped from outside."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.fakes import ARGUMENTS
from vggbench.results.journal import JOURNAL_NAME, read_journal
from vggbench.results.run_info import FILE_NAME

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="waits for other processes in Linux's way"),
]

ROUNDS = 6
KILLS = 10


def rounds_of(folder: Path) -> list[tuple[str, int]]:
    return [(record.cell_id, record.round) for record in read_journal(folder / JOURNAL_NAME)]


def begin(folder: Path, exports: Path) -> subprocess.Popen[str]:
    """Start the run, or go on with it where there is one."""
    again = (folder / FILE_NAME).exists()
    plan = ("--resume",) if again else (*ARGUMENTS, "--backend", "fake", "--rounds", ROUNDS, "--time-budget-s", "0.5")
    places = ("--output", folder, "--exports", exports)
    return subprocess.Popen(
        [sys.executable, "-m", "vggbench", "run", *map(str, (*plan, *places))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group of its own, as a shell makes it
    )


def ended(pids: list[int]) -> bool:
    """Say whether the processes are gone; waits for each a while."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        with os.fdopen(descriptor):
            if not select.select([descriptor], [], [], 10)[0]:
                return False
    return True


def test_ctrl_c_reports_ends_the_worker_and_is_130(tmp_path: Path, fake_exports: Path):
    folder = tmp_path / "run"
    with begin(folder, fake_exports) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("[2/"):
            assert process.poll() is None
        workers = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    done = len(rounds_of(folder))
    assert 2 <= done < 2 * ROUNDS
    message = err.splitlines()[-1]
    assert message.startswith(f"vggbench: stopped after {done} rounds; continue with: vggbench run --resume")
    assert "Traceback" not in err
    assert out == ""
    assert ended(workers)
    for name in ("results.csv", "summary.md", "samples.parquet"):
        assert (folder / name).stat().st_size > 0


def test_a_run_killed_at_any_moment_goes_on_and_measures_nothing_twice(tmp_path: Path, fake_exports: Path):
    folder = tmp_path / "run"
    moments = random.Random(20140904)
    before: list[tuple[str, int]] = []
    for _ in range(KILLS):
        with begin(folder, fake_exports) as process:
            workers = []
            try:
                process.communicate(timeout=moments.uniform(0.2, 1.8))
            except subprocess.TimeoutExpired:
                workers = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
            process.kill()
        assert ended(workers)
        after = rounds_of(folder)
        assert after[: len(before)] == before
        before = after
    with begin(folder, fake_exports) as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    finished = rounds_of(folder)
    assert finished[: len(before)] == before
    cells = {cell_id for cell_id, _ in finished}
    assert len(cells) == 2
    assert Counter(finished) == Counter((cell_id, number) for cell_id in cells for number in range(ROUNDS))
