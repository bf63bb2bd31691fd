"""A worker as a process: the real one, and programs that behave badly in its place."""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import TIMEOUT_S, fake_cell, fake_request
from vggbench.backends.base import PRECISIONS
from vggbench.measure import client as module
from vggbench.measure.client import WorkerClient, WorkerFailure, probe, probe_all
from vggbench.measure.worker import PROTOCOL

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the programs in a worker's place are shell scripts")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")

GREETING = json.dumps({"ok": True, "result": {"protocol": PROTOCOL}})


@pytest.fixture
def program(tmp_path: Path):
    """Return a function that writes a shell script and returns its path; the worker's arguments are $1 to $4."""

    def write(script: str) -> str:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return write


def failure_of(python: str, *, timeout_s: float = TIMEOUT_S, command: str | None = None) -> WorkerFailure:
    """Return how a worker fails, at its start or at a command."""
    with pytest.raises(WorkerFailure) as caught, WorkerClient(python=python, timeout_s=timeout_s) as worker:
        worker.call(command or "close")
    return caught.value


def is_gone(pid: int) -> bool:
    """Say whether the process has ended; waits for it a while."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], TIMEOUT_S)[0])
    finally:
        os.close(descriptor)


def test_the_real_worker_greets_and_obeys():
    with WorkerClient() as worker:
        assert worker.pid > 0
        assert worker.call("close")["peak_memory_bytes"] > 0
    assert is_gone(worker.pid)


def test_leaving_ends_the_worker_whatever_happened():
    with pytest.raises(KeyboardInterrupt), WorkerClient() as worker:
        raise KeyboardInterrupt
    assert is_gone(worker.pid)


def test_a_refusal_names_command_and_reason_and_the_worker_lives_on():
    with WorkerClient() as worker:
        with pytest.raises(WorkerFailure) as caught:
            worker.call("probe", backend="nope", device="cpu", precisions=[])
        assert (caught.value.stage, caught.value.status) == ("probe", "failed")
        assert caught.value.reason.startswith("RequestError: unknown backend 'nope'")
        assert worker.call("close")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("""echo '{"ok": true, "result": {"protocol": 99}}'; read line""", "speaks protocol 99, not 1"),
        ("""echo '{"ok": true, "result": {}}'; read line""", "speaks protocol None, not 1"),
        ("echo Welcome to libfoo 2.1; read line", "wrote 'Welcome to libfoo 2.1\\n' where an answer belongs"),
        ("printf '\\377\\376\\000\\n'; read line", "where an answer belongs"),
        ("echo 5; read line", "wrote '5\\n' where an answer belongs"),
        ("echo '{}'; read line", "wrote '{}\\n' where an answer belongs"),
        ("""echo '{"ok": true}'; read line""", "where an answer belongs"),
        ("""echo '{"ok": true, "result": 7}'; read line""", "where an answer belongs"),
        ("""printf '{"ok": true, "res'""", "the worker ended with code 0"),
        ("exit 3", "the worker ended with code 3"),
        ("echo one >&2; echo no such library >&2; echo >&2; exit 1", "ended with code 1: no such library"),
        ("kill -9 $$", "the worker was killed by SIGKILL, perhaps by the kernel because memory ran out"),
        ("kill -11 $$", "the worker was killed by SIGSEGV"),
        ("kill -40 $$", "the worker was killed by signal 40"),
        ("""echo '{"ok": false, "kind": "X", "message": "y"}'; read line""", "X: y"),
    ],
)
def test_a_bad_start_is_told_in_one_line(program, script: str, reason: str):
    failure = failure_of(program(script))
    assert (failure.stage, failure.status) == ("start", "failed")
    assert reason in failure.reason
    assert str(failure) == f"start: {failure.reason}"


def test_a_program_that_is_not_there():
    failure = failure_of("/no/such/python")
    assert failure.reason == "/no/such/python cannot be started: No such file or directory"


def test_without_room_for_what_it_prints_no_worker_starts(monkeypatch: pytest.MonkeyPatch):
    def full(*_arguments: object, **_settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    assert failure_of(sys.executable).reason == "no temporary file can be made: No space left on device"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (f"echo '{GREETING}'; read line; echo '[1, 2]'; read line", "wrote '[1, 2]\\n' where an answer belongs"),
        (f"echo '{GREETING}'; read line; kill -6 $$", "was killed by SIGABRT"),
        (f"echo '{GREETING}'; read line; exit 7", "ended with code 7"),
        (f"echo '{GREETING}'; exec <&-; kill -9 $$", "was killed by SIGKILL"),
    ],
)
def test_a_worker_that_fails_at_a_command(program, script: str, reason: str):
    failure = failure_of(program(script), command="verify")
    assert (failure.stage, failure.status) == ("verify", "failed")
    assert reason in failure.reason


@pytest.mark.parametrize("script", ["exec sleep 100", f"echo '{GREETING}'; exec sleep 100"])
def test_silence_is_ended_and_reported_as_a_timeout(program, script: str):
    failure = failure_of(program(script), timeout_s=0.1)
    assert (failure.status, failure.reason) == ("timeout", "no answer within 0.1 s")


def test_a_timeout_ends_the_process(program):
    with WorkerClient(python=program(f"echo '{GREETING}'; exec sleep 100"), timeout_s=TIMEOUT_S) as worker:
        worker._timeout_s = 0.1
        with pytest.raises(WorkerFailure):
            worker.call("verify")
        assert is_gone(worker.pid)


def test_children_of_a_worker_end_with_it(program):
    script = f"""echo '{GREETING}'; sleep 100 & echo '{{"ok": true, "result": {{"child": '$!'}}}}'; wait"""
    with WorkerClient(python=program(script)) as worker:
        child = worker.call("close")["child"]
    assert is_gone(child)


def test_a_child_that_holds_the_pipe_open_does_not_stop_the_clean_up(program):
    with WorkerClient(python=program(f"echo '{GREETING}'; sleep 100 & exit 0"), timeout_s=TIMEOUT_S) as worker:
        worker._timeout_s = 0.1
        with pytest.raises(WorkerFailure):
            worker.call("close")


def test_a_worker_that_closes_its_pipe_and_lives_on(program, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_LAST_MOMENTS_S", 0.1)
    failure = failure_of(program(f"echo '{GREETING}'; exec >&- <&-; sleep 100"))
    assert failure.reason == "the worker closed its pipe and did not end"


def test_without_process_groups_the_worker_itself_is_killed(program, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "killpg")
    assert failure_of(program("exec sleep 100"), timeout_s=0.1).status == "timeout"


def test_reasons_are_one_short_printable_line(program):
    long = "x" * 1000
    failure = failure_of(program(f"printf '\\033[31mred\\tline{long}\\n' >&2; exit 1"))
    assert len(failure.reason) == 300
    assert failure.reason.isprintable()


WRAPPED = """
import os, sys
from vggbench.backends.fake import FakeSession
from vggbench.measure import worker
{patch}
worker.main()
"""


@pytest.fixture
def wrapped(program):
    """Return a function that makes a worker with something changed in it."""

    def make(patch: str) -> str:
        return program(f"exec {sys.executable} -P -c '{WRAPPED.format(patch=patch)}' \"$4\"")

    return make


def test_what_libraries_print_does_not_disturb(wrapped, fake_exports: Path):
    noisy = wrapped("""
def enqueue(self, slot, real=FakeSession.enqueue):
    print("loading kernels")
    sys.stdout.flush()
    os.write(1, b"{}\\n")
    os.system("echo from a child")
    assert sys.stdin.read() == ""
    real(self, slot)
FakeSession.enqueue = enqueue""")
    request = fake_request(fake_cell(), fake_exports)
    with WorkerClient(python=noisy, timeout_s=TIMEOUT_S) as worker:
        assert worker.call("open", **request.opening(1))["timeline"] == "scripted"
        assert worker.call("verify", tolerance=request.tolerance)["passed"]


def test_numbers_that_json_lacks_come_as_nothing(wrapped):
    odd = wrapped("""worker._COMMANDS["odd"] = lambda _: {"nan": float("nan"), "inf": [float("inf")]}""")
    with WorkerClient(python=odd, timeout_s=TIMEOUT_S) as worker:
        assert worker.call("odd") == {"nan": None, "inf": [None]}


def test_a_worker_loads_numpy_and_its_backend_alone(wrapped, fake_exports: Path):
    telling = wrapped("""worker._COMMANDS["modules"] = lambda _: {"names": sorted(sys.modules)}""")
    request = fake_request(fake_cell(), fake_exports)
    with WorkerClient(python=telling, timeout_s=TIMEOUT_S) as worker:
        worker.call("open", **request.opening(2))
        worker.call("evidence")
        worker.call("verify", tolerance=request.tolerance)
        worker.call("block", kind="throughput", seconds=0.01)
        loaded = {name.partition(".")[0] for name in worker.call("modules")["names"]}
    # What an interpreter loads by itself: for editable installations, coverage, extensions written in Cython.
    hooks = {"$coverage", "coverage", "cython_runtime", "sitecustomize"}
    own = {name for name in loaded if name.startswith(("__editable__", "_")) or name in hooks}
    assert loaded - own - sys.stdlib_module_names == {"numpy", "vggbench"}


@LINUX
def test_a_worker_dies_with_a_parent_that_was_killed():
    code = (
        "from vggbench.measure.client import WorkerClient\n"
        "with WorkerClient() as worker:\n"
        "    print(worker.pid, flush=True)\n"
        "    worker._lines.get()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    assert is_gone(worker)


def test_a_probe_in_a_process_of_its_own():
    found = probe("fake", "cpu")
    assert (found.available, found.version) == (True, "1")
    assert list(found.precisions) == list(PRECISIONS)
    assert {name: reason for name, reason in found.precisions.items() if not reason} == {"fp32": "", "bf16": ""}


def test_a_probe_that_breaks_is_a_backend_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    monkeypatch.setattr(module, "WorkerClient", lambda: WorkerClient(python="/no/such/python"))
    found = probe("torch", "cpu")
    assert not found.available
    assert "cannot be started" in found.reason
    assert found.remedy


def test_every_real_backend_is_probed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "probe", lambda name, device: (name, device))
    assert probe_all("cpu") == [
        (name, "cpu") for name in ("torch", "torch-compile", "onnxruntime", "openvino", "onnx-reference")
    ]
    assert {"torch", "onnxruntime-tensorrt"} < {name for name, _device in probe_all("cuda:1")}
