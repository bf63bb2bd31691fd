"""A real `vggbench run`, with processes of its own, that is asked to stop."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.fakes import ARGUMENTS
from tests.killing import WHOLE_RUN, await_line, begin, check_whole, children_of, ended, rounds_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="waits for other processes in Linux's way"),
]

ROUNDS = 6
PLAN = (*ARGUMENTS, "--backend", "fake", "--rounds", ROUNDS, "--time-budget-s", "0.5")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_asked_to_stop_it_reports_ends_its_worker_and_is_130(
    tmp_path: Path, fake_exports: Path, number: signal.Signals
):
    folder = tmp_path / "run"
    places = ("--output", folder, "--exports", fake_exports)
    with begin("run", *PLAN, *places) as process:
        await_line(process, "[2/")
        workers = children_of(process)
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    done = len(rounds_of(folder))
    assert 2 <= done < 2 * ROUNDS
    message = err.splitlines()[-1]
    assert message.startswith(f"vggbench: stopped after {done} rounds; continue with: vggbench run --resume")
    assert "Traceback" not in err
    assert out == ""
    assert ended(workers)
    check_whole(folder)
    assert {path.name for path in folder.iterdir()} == WHOLE_RUN


def test_a_second_run_into_the_same_folder_is_refused_and_the_first_ends_well(tmp_path: Path, fake_exports: Path):
    places = ("--output", tmp_path / "run", "--exports", fake_exports)
    with begin("run", *PLAN, *places) as first:
        await_line(first, "[1/")
        os.kill(first.pid, signal.SIGSTOP)  # it holds the folder for as long as this takes
        for second in (("--resume",), PLAN):
            with begin("run", *second, *places) as process:
                out, err = process.communicate(timeout=120)
            assert (process.returncode, out) == (2, "")
            message = f"{tmp_path / 'run'} is in use by another vggbench; wait for it or name another folder"
            assert err == f"vggbench: {message}\n"
        os.kill(first.pid, signal.SIGCONT)
        _, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    assert len(rounds_of(tmp_path / "run")) == 2 * ROUNDS
