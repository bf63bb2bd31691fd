"""The parent's end of a process that builds one engine: starts it, hears how it gets on, and ends it in any case.

The standard library only; `engine_builder` is what runs there.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO, Any

from vggbench.artefacts.child_process import hand_on, how_it_ended, kill_group
from vggbench.errors import ExportError, RequestError

BUILD_TIMEOUT_S = 1800.0  # a full-size network takes seconds without a search; TensorRT's longest searches take minutes
PROBE_TIMEOUT_S = 60.0  # a library of 234 MB from a cold disk
_LAST_MOMENTS_S = 5.0  # a process that has closed its output is past all work
_NO_VARIABLES: Mapping[str, str] = MappingProxyType({})

# Told of each step: the phase in hand, and how many steps of how many are done.
Progress = Callable[[str, int, int], None]


def no_progress(phase: str, done: int, total: int) -> None:
    """Tell nobody."""


def build_engine(
    job: Mapping[str, Any],
    progress: Progress = no_progress,
    timeout_s: float = BUILD_TIMEOUT_S,
    variables: Mapping[str, str] = _NO_VARIABLES,
) -> dict[str, Any]:
    """Build an engine in a process of its own, which gets further `variables`; return what the builder said of it.

    Raises `RequestError` for an option that the library does not have, and `ExportError` where there is no engine: with
    the builder's reason, or how its process ended. Whatever ends this call, Ctrl-C too, ends the process.
    """
    with _builder(job, variables) as process:
        return process.result(progress, timeout_s)


def library_version(module: str) -> str:
    """Import a TensorRT in a process of its own and return its version; `ExportError` says why it cannot be."""
    with _builder({"module": module}) as process:
        return str(process.result(no_progress, PROBE_TIMEOUT_S)["version"])


@contextmanager
def _builder(job: Mapping[str, Any], variables: Mapping[str, str] = _NO_VARIABLES) -> Iterator[_Process]:
    with tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace") as log:
        process = _start(log, variables)
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        reader = threading.Thread(target=hand_on, args=(process.stdout, lines), daemon=True)
        reader.start()
        try:
            yield _Process(process, lines, log, job)
        finally:
            kill_group(process)
            process.wait()
            reader.join()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                with suppress(BrokenPipeError):  # a job that was never read
                    stream.close()


def _start(log: IO[str], variables: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "vggbench.artefacts.engine_builder", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env={**os.environ, **variables},
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C is the parent's to handle; and the group is killed as one
    )


@dataclass(frozen=True, slots=True)
class _Process:
    process: subprocess.Popen[str]
    lines: queue.SimpleQueue[str]
    log: IO[str]
    job: Mapping[str, Any]

    def result(self, progress: Progress, timeout_s: float) -> dict[str, Any]:
        """Hand the job over and wait for its result."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; how is said below
            self.process.stdin.write(json.dumps(self.job) + "\n")
            self.process.stdin.flush()
        deadline = time.monotonic() + timeout_s
        while True:
            message = self._message(deadline, timeout_s)
            if "progress" in message:
                progress(*message["progress"])
            elif "refused" in message:
                raise RequestError(message["refused"])
            elif "error" in message:
                raise ExportError(f"{self.job['module']}: {message['error']}")
            else:
                return dict(message["result"])

    def _message(self, deadline: float, timeout_s: float) -> dict[str, Any]:
        try:
            line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise ExportError(f"{self.job['module']} built no engine within {timeout_s:g} s") from None
        if not line.endswith("\n"):  # the end of the pipe, or of a process that was writing
            raise ExportError(f"{self.job['module']}: the builder's process {self._ending()}")
        return dict(json.loads(line))

    def _ending(self) -> str:
        """Return how the process ended, and the last line that it, or the library in it, has printed."""
        try:
            ending = how_it_ended(self.process.wait(_LAST_MOMENTS_S))
        except subprocess.TimeoutExpired:
            ending = "closed its output and did not end"
        self.log.seek(0)
        words = [line.strip() for line in self.log if line.strip()]
        return ": ".join([ending, *words[-1:]])
