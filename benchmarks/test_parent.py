"""The parent leaves the cores to the child that measures, with a live bar on a terminal as without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("parent_cpu.py")
LARGEST_PERCENT = 1.0  # of a core


@pytest.mark.parametrize("terminal", [False, True], ids=["lines", "live bar"])
def test_the_parent_hardly_uses_a_core(terminal: bool) -> None:
    command = [sys.executable, str(SCRIPT), "--json", "--rounds", "1", "--round-seconds", "15"]
    found, shown = _on_terminal(command) if terminal else _in_pipe(command)
    print(f"\nthe parent used {found['percent']:.2f} % of a core over {found['wall_s']:.0f} s")
    assert ("\x1b[" in shown) == terminal  # a live bar moves the cursor
    assert found["percent"] < LARGEST_PERCENT


def _in_pipe(command: list[str]) -> tuple[dict[str, float], str]:
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(ended.stdout), ended.stderr


def _on_terminal(command: list[str]) -> tuple[dict[str, float], str]:
    """Give the process a terminal for its stderr and read what it draws there."""
    ours, theirs = os.openpty()
    shown: list[bytes] = []
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment) as process:
        os.close(theirs)
        reader = threading.Thread(target=_read_all, args=(ours, shown))
        reader.start()
        output, _ = process.communicate()
        reader.join()
    os.close(ours)
    assert process.returncode == 0, b"".join(shown)
    return json.loads(output), b"".join(shown).decode(errors="replace")


def _read_all(terminal: int, shown: list[bytes]) -> None:
    try:
        while part := os.read(terminal, 65536):
            shown.append(part)
    except OSError:  # Linux says that the other end is closed by an error
        return
