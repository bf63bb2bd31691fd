"""Streams that are full or closed, a working directory that is gone, signals that ask for an end: real processes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import ARGUMENTS
from vggbench.__main__ import main

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")

COMMAND = shlex.join([sys.executable, "-m", "vggbench"])


def shell(line: str, *, unbuffered: bool = False, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which `vggbench` is this one."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1" if unbuffered else ""}
    script = f'vggbench() {{ {COMMAND} "$@"; }}\n{line}'
    return subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=False, timeout=120, cwd=cwd, env=environment
    )


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("command", ["list", "list --json", "show vgg11 --json", "--version", "--help"])
def test_a_full_disk_behind_stdout_is_one_line_and_74(command: str, unbuffered: bool):
    ended = shell(f"vggbench {command} >/dev/full", unbuffered=unbuffered)
    message = "vggbench: what was to be printed cannot be written: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (74, message)


def test_a_closed_stdout_is_one_line_and_74():
    ended = shell("vggbench list >&-")
    message = "vggbench: stdout is closed; redirect it to /dev/null to print nothing\n"
    assert (ended.returncode, ended.stderr) == (74, message)


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
def test_a_verdict_that_cannot_be_said_is_still_a_verdict(stderr: str):
    ended = shell(f"vggbench show vgg99 {stderr}")
    assert (ended.returncode, ended.stdout) == (2, "")


def test_a_wrong_request_with_a_full_stdout_is_2():
    ended = shell("vggbench show vgg99 >/dev/full")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", "<&-", "<&- 2>&-"])
def test_progress_that_nobody_can_read_ends_no_run(tmp_path: Path, fake_exports: Path, closed: str):
    plan = [*ARGUMENTS, "--backend", "fake", "--precision", "fp32", "--rounds", "1", "--time-budget-s", "0.1", "--json"]
    command = shlex.join(["run", *plan, "--output", str(tmp_path / "run"), "--exports", str(fake_exports)])
    ended = shell(f"vggbench {command} {closed}")
    assert ended.returncode == 0, ended.stderr
    assert [row["status"] for row in json.loads(ended.stdout)] == ["ok"]  # and nothing else on stdout
    assert (tmp_path / "run" / "summary.md").exists()


@pytest.mark.slow
def test_progress_of_an_export_likewise(tmp_path: Path):
    command = shlex.join(["export", *ARGUMENTS, "--exports", str(tmp_path)])
    ended = shell(f"vggbench {command} 2>/dev/full")
    assert ended.returncode == 0
    assert Path(ended.stdout.strip()).exists()


@pytest.mark.parametrize("command", ["list", "run --backend fake", "export"])
def test_a_working_directory_that_is_gone_is_one_line_and_2(tmp_path: Path, command: str):
    gone = tmp_path / "gone"
    gone.mkdir()
    source = shlex.quote(str(Path(__file__).parents[1]))
    ended = shell(f"export PYTHONPATH={source}; rmdir {shlex.quote(str(gone))}; vggbench {command}", cwd=gone)
    message = "vggbench: the working directory does not exist any more; change to another\n"
    assert (ended.returncode, ended.stderr) == (2, message)


def test_an_error_of_a_file_is_a_defect_and_not_hidden(monkeypatch: pytest.MonkeyPatch):
    def broken(_folder: Path) -> None:
        raise OSError(28, "No space left on device", "some-file")

    monkeypatch.setattr("vggbench.report.derive.derive_again", broken)
    with pytest.raises(OSError, match="some-file"):
        main(["report", "somewhere"])


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_that_asks_for_an_end_is_as_ctrl_c(name: str, monkeypatch: pytest.MonkeyPatch, capsys):
    number = getattr(signal, name)
    outside = signal.signal(number, signal.SIG_DFL)  # under nohup it is ignored, and stays so

    def asked_to_end(_folder: Path) -> None:
        os.kill(os.getpid(), number)
        signal.pause()

    monkeypatch.setattr("vggbench.report.derive.derive_again", asked_to_end)
    try:
        with pytest.raises(SystemExit) as ending:
            main(["report", "somewhere"])
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, outside)
    assert ending.value.code == 130
    assert capsys.readouterr().err == "vggbench: interrupted\n"


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch):
    def under_nohup(_folder: Path) -> list[object]:
        os.kill(os.getpid(), signal.SIGHUP)
        raise SystemExit(0)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr("vggbench.report.derive.derive_again", under_nohup)
        with pytest.raises(SystemExit) as ending:
            main(["report", "somewhere"])
    finally:
        signal.signal(signal.SIGHUP, before)
    assert ending.value.code == 0
