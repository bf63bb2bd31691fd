"""Processes that this one starts to work for it: they die with it, are killed whole, and their end is put into words.

The standard library only: what runs in such a process imports it, too.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import subprocess
import sys
from contextlib import suppress
from typing import IO

_PR_SET_PDEATHSIG = 1  # prctl(2): the signal a process gets when its parent dies
_PERHAPS_MEMORY = ", perhaps by the kernel because memory ran out (try a smaller batch)"


def die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere the end of the input ends it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the request was made
            sys.exit(1)


def own_answers() -> IO[str]:
    """Return stdout as a stream for answers alone: what libraries print to it goes to stderr from here on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def kill_group(process: subprocess.Popen[str]) -> None:
    """Kill the process and its children, also when it has ended itself: one that is left would hold the pipe open."""
    if hasattr(os, "killpg"):  # not on Windows
        with suppress(ProcessLookupError):  # all of it has ended
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def hand_on(stream: IO[str], lines: queue.SimpleQueue[str]) -> None:
    """Hand on line after line, then an empty one: a blocking read that a timeout can be put on."""
    for line in stream:
        lines.put(line)
    lines.put("")


def how_it_ended(code: int) -> str:
    """Return an exit code in words: `ended with code 1`, `was killed by SIGSEGV`."""
    if code >= 0:
        return f"ended with code {code}"
    name = _signal_name(-code)
    # Whom the kernel kills for memory gets no word to say, and the kernel's own log is not everybody's to read.
    return f"was killed by {name}" + (_PERHAPS_MEMORY if name == "SIGKILL" else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no names
        return f"signal {number}"
