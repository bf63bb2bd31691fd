"""The parent's end of a worker process: starts it, asks it, and waits without polling. Standard library only."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, Self

from vggbench.artefacts.child_process import hand_on, how_it_ended, kill_group
from vggbench.backends.base import PRECISIONS
from vggbench.backends.registry import REAL_BACKENDS, runs_on
from vggbench.errors import CellError
from vggbench.measure.worker import PROTOCOL

WORKER_MODULE = "vggbench.measure.worker"
_PROBE_TIMEOUT_S = 120.0  # a first import of torch from a cold disk was seen to take 30 s
_LAST_MOMENTS_S = 5.0  # a process that has closed its pipes is past all work; unmapping large weights takes under 1 s
_LONGEST_REASON = 300  # characters of a worker's last words that fit a table


class WorkerFailure(CellError):
    """A worker that answered no, died, said something else, or did not answer in time."""

    def __init__(self, stage: str, status: str, reason: str) -> None:
        """Keep at which command (`stage`) it happened and whether the row is `failed` or `timeout`."""
        self.stage = stage
        self.status = status
        self.reason = _one_line(reason)
        super().__init__(f"{stage}: {self.reason}")


class WorkerClient:
    """A worker process; leaving the context kills it if it still lives, with whatever it has started."""

    def __init__(
        self,
        *,
        python: str = sys.executable,
        timeout_s: float = _PROBE_TIMEOUT_S,
        module: str = WORKER_MODULE,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Start the process and check its greeting.

        Another `module` that obeys line by line may run there; `variables` are the process's environment, this one's
        without them.
        """
        self._timeout_s = timeout_s
        self._killed = False
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        # Open for as long as the process lives, like the process itself: `close` closes both.
        try:
            self._log = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        except OSError as error:
            raise WorkerFailure("start", "failed", f"no temporary file can be made: {error.strerror}") from None
        try:
            self._process = _start(python, module, variables, self._log)
        except OSError as error:
            self._log.close()
            raise WorkerFailure("start", "failed", f"{python} cannot be started: {error.strerror}") from None
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=hand_on, args=(self._process.stdout, self._lines), daemon=True)
        self._reader.start()
        self.pid: int = self._process.pid
        try:
            self._greet()
        except BaseException:  # nobody else closes what was never handed out; Ctrl-C comes here too
            self.close()
            raise

    def _greet(self) -> None:
        protocol = self._receive("start").get("protocol")
        if protocol != PROTOCOL:
            raise self._failure("start", f"the worker speaks protocol {protocol!r}, not {PROTOCOL}")

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and return its result; `WorkerFailure` if there is none."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died(command) from None
        return self._receive(command)

    def _receive(self, stage: str) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=self._timeout_s)
        except queue.Empty:
            self.kill()
            raise WorkerFailure(stage, "timeout", f"no answer within {self._timeout_s:g} s") from None
        if not line.endswith("\n"):  # the end of the pipe, or of a process that was writing
            raise self._died(stage)
        message = _parse(line)
        if message is None:
            self.kill()
            raise WorkerFailure(stage, "failed", f"the worker wrote {line[:60]!r} where an answer belongs")
        if not message["ok"]:
            raise WorkerFailure(stage, "failed", f"{message.get('kind')}: {message.get('message')}")
        return dict(message["result"])

    def _died(self, stage: str) -> WorkerFailure:
        try:
            code = self._process.wait(_LAST_MOMENTS_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._failure(stage, "the worker closed its pipe and did not end")
        return self._failure(stage, f"the worker {how_it_ended(code)}")

    def _failure(self, stage: str, reason: str) -> WorkerFailure:
        """Add the last line that the process, or a library in it, has printed."""
        self._log.seek(0)
        words = [line.strip() for line in self._log if line.strip()]
        return WorkerFailure(stage, "failed", ": ".join([reason, *words[-1:]]))

    def kill(self) -> None:
        """End the process at once and release what belongs to it."""
        if self._killed:
            return
        self._killed = True
        kill_group(self._process)
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                _close_quietly(stream)

    def close(self) -> None:
        """Kill the process and forget what it printed."""
        self.kill()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _start(python: str, module: str, variables: Mapping[str, str] | None, log: IO[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, "-P", "-m", module, str(os.getpid())],
        env=variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C is the parent's to handle; and the group is killed as one
    )


def _parse(line: str) -> dict[str, Any] | None:
    """Return a worker's message, None if the line is none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or "ok" not in message:
        return None
    return message if not message["ok"] or isinstance(message.get("result"), dict) else None


def _one_line(text: str) -> str:
    """Return what fits a table's cell and moves no terminal's cursor."""
    return "".join(character if character.isprintable() else " " for character in text)[:_LONGEST_REASON]


def _close_quietly(stream: IO[str]) -> None:
    """Close a pipe; what could not be flushed to a dead process is of no interest."""
    with suppress(BrokenPipeError):
        stream.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendProbe:
    """What a worker found when it imported a backend's library.

    Attributes:
        version: of the library; empty if it is not available.
        reason, remedy: why not, and what to do; empty if it is available.
        precisions: for each precision, why it is not native; empty text if it is.
    """

    name: str
    available: bool
    version: str
    reason: str
    remedy: str
    precisions: dict[str, str]


def probe(name: str, device: str, start: Callable[[], WorkerClient] | None = None) -> BackendProbe:
    """Import the backend in a worker of its own, so that a broken library breaks nothing else.

    `start` starts that worker; without it, it is one of this environment.
    """
    try:
        with (start or WorkerClient)() as worker:
            found = worker.call("probe", backend=name, device=device, precisions=list(PRECISIONS))
    except WorkerFailure as failure:
        remedy = "reinstall its package"
        return BackendProbe(name=name, available=False, version="", reason=failure.reason, remedy=remedy, precisions={})
    return BackendProbe(name=name, **found)


def probe_all(device: str) -> list[BackendProbe]:
    """Probe every real backend that is for the device, in the registry's order."""
    return [probe(name, device) for name in REAL_BACKENDS if runs_on(name, device)]
