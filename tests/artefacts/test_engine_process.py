"""What becomes of a build whose process is refused, crashes, hangs, or is stopped; by modules that do just that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.artefacts.engines import job, write_module
from vggbench.artefacts import engine_process
from vggbench.artefacts.engine_process import build_engine, library_version
from vggbench.errors import ExportError

SAYS_HELLO = "print('hello', flush=True)\n__version__ = '10.13'\n"
CRASHES = "import os, signal\nprint('about to', flush=True)\nos.kill(os.getpid(), signal.SIGSEGV)\n"
HANGS = "import pathlib, os, time\npathlib.Path({path!r}).write_text(str(os.getpid()))\ntime.sleep(600)\n"


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    """Every process that is started."""
    started: list[subprocess.Popen[str]] = []
    start = engine_process._start

    def noted(*arguments):
        started.append(start(*arguments))
        return started[-1]

    monkeypatch.setattr(engine_process, "_start", noted)
    return started


def test_what_a_library_prints_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert library_version(write_module(tmp_path, SAYS_HELLO, monkeypatch)) == "10.13"


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(ExportError, match="no_such_tensorrt cannot be imported: No module named"):
        library_version("no_such_tensorrt")


def test_bindings_without_their_library_are_told_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = write_module(tmp_path, "raise ImportError('libnvinfer.so.10: cannot open')\n", monkeypatch)
    with pytest.raises(ExportError, match=r"cannot be imported: libnvinfer\.so\.10: cannot open"):
        library_version(module)


def test_a_crash_is_said_with_the_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes) -> None:
    module = write_module(tmp_path, CRASHES, monkeypatch)
    with pytest.raises(ExportError, match=r"the builder's process was killed by SIGSEGV: about to"):
        build_engine(job(tmp_path / "model.onnx", tmp_path, module=module))
    assert [process.returncode for process in processes] == [-signal.SIGSEGV]


def test_what_is_not_foreseen_ends_the_process_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = write_module(tmp_path, "raise ValueError('one of its own')\n", monkeypatch)
    with pytest.raises(ExportError, match="ended with code 1: ValueError: one of its own"):
        library_version(module)


def test_one_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes) -> None:
    module = write_module(tmp_path, HANGS.format(path=str(tmp_path / "pid")), monkeypatch)
    with pytest.raises(ExportError, match=r"built no engine within 0\.2 s"):
        build_engine(job(tmp_path / "model.onnx", tmp_path, module=module), timeout_s=0.2)
    assert [process.returncode for process in processes] == [-signal.SIGKILL]


def test_ctrl_c_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes) -> None:
    """The interrupt is raised where the call waits; a signal would not reach a test's process that ignores it."""
    started = tmp_path / "pid"
    module = write_module(tmp_path, HANGS.format(path=str(started)), monkeypatch)

    def interrupted(*_waiting: object) -> None:
        while not (started.exists() and started.read_text()):  # ends at the test's time-out
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(engine_process._Process, "_message", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_engine(job(tmp_path / "model.onnx", tmp_path, module=module))
    assert [process.returncode for process in processes] == [-signal.SIGKILL]
    assert [process.pid for process in processes] == [int(started.read_text())]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_builder_whose_parent_is_gone_already_does_not_start() -> None:
    command = [sys.executable, "-m", "vggbench.artefacts.engine_builder", str(os.getpid() + 1)]
    ended = subprocess.run(command, input='{"module": "json"}\n', capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
