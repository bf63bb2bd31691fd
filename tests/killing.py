"""Real `vggbench` processes that are ended from outside, and what they must not leave behind."""

from __future__ import annotations

import csv
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from random import Random

import psutil

from vggbench.results.columns import COLUMNS
from vggbench.results.journal import JOURNAL_NAME, read_journal
from vggbench.results.run_info import FILE_NAME, read_run_info

HELD_BACK = ".unfinished-"  # how everything begins that is not whole yet
WHOLE_RUN = {FILE_NAME, JOURNAL_NAME, "results.csv", "samples.parquet", "summary.md", ".lock"}


def begin(*arguments: object) -> subprocess.Popen[str]:
    """Start `vggbench` with arguments."""
    return subprocess.Popen(
        [sys.executable, "-m", "vggbench", *map(str, arguments)],
        preexec_fn=_hear_interrupts,  # noqa: PLW1509 - before any thread of the tests
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group of its own, as a shell makes it
    )


def _hear_interrupts() -> None:
    """A shell has its background jobs ignore Ctrl-C, and whatever they start with them."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


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


def children_of(process: subprocess.Popen[str]) -> list[int]:
    """Return whatever the process has started and has not waited for."""
    with suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    return []


def await_line(process: subprocess.Popen[str], start: str) -> None:
    """Wait for a line of progress that starts so, or for the end of the process."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(start):
            return


def kill_at_random(process: subprocess.Popen[str], moments: Random, marks: tuple[str, ...], longest_s: float) -> bool:
    """Kill the process some time after a line of progress, or after its start; say whether it was still alive.

    Whatever it had started has to end with it.
    """
    with process:
        mark = moments.choice(marks)
        if mark:
            await_line(process, mark)
        with suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0, longest_s))
        process.send_signal(signal.SIGSTOP)  # so that it starts nothing between the count and its end
        children = children_of(process)
        process.kill()
        assert ended(children)
    assert process.returncode in {0, -signal.SIGKILL}
    return process.returncode == -signal.SIGKILL


def check_whole(folder: Path) -> None:
    """Read every file that a run's folder shows: each is whole, whenever that is."""
    import pyarrow.parquet

    if (folder / FILE_NAME).exists():
        read_run_info(folder)
    read_journal(folder / JOURNAL_NAME)
    if (folder / "results.csv").exists():
        text = (folder / "results.csv").read_text()
        assert text.endswith("\n")
        assert {len(row) for row in csv.reader(text.splitlines())} == {len(COLUMNS)}
    if (folder / "samples.parquet").exists():
        pyarrow.parquet.read_table(folder / "samples.parquet")
    if (folder / "summary.md").exists():
        text = (folder / "summary.md").read_text()
        assert text.startswith("# vggbench run\n")
        assert text.endswith("\n")


def finished_lines(folder: Path) -> bytes:
    """Return the journal up to its last whole line."""
    path = folder / JOURNAL_NAME
    text = path.read_bytes() if path.exists() else b""
    return text[: text.rfind(b"\n") + 1]


def rounds_of(folder: Path) -> list[tuple[str, int]]:
    return [(record.cell_id, record.round) for record in read_journal(folder / JOURNAL_NAME)]


def held_back(folder: Path) -> list[Path]:
    """Return what is not whole yet below a folder."""
    return [path for path in folder.rglob("*") if path.name.startswith(HELD_BACK)]
