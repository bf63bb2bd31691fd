"""`.ci/environment`, with an interpreter that only writes down what it is asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.meta.repository import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs bash and make")

# Answers what the script asks; an environment's python is a copy of it.
INTERPRETER = """#!/bin/sh
case "$*" in
    *python_version*) echo "{version}" ;;
    *"sys.exit"*) exit {old} ;;
    *ensurepip*) exit {no_venv} ;;
    *base_prefix*) echo "/usr {version}" ;;
    --version) echo "Python {version}" ;;
    "-m venv --clear "*) rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
    "-m pip "*) echo "$*" >> pip.log; exit {pip_fails} ;;
esac
"""


class Clone:
    """A folder with the script and a PATH on which the test decides which interpreters there are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tools = folder / "tools"
        self.tools.mkdir()
        for name in ("bash", "cat", "cksum", "cp", "dirname", "mkdir", "rm", "sh", "touch", "tr", "env"):
            (self.tools / name).symlink_to(shutil.which(name) or name)
        (folder / ".ci").mkdir()
        shutil.copy(ROOT / ".ci" / "environment", folder / ".ci")
        shutil.copy(ROOT / "pyproject.toml", folder)

    def interpreter(self, name: str, version: str = "3.11.7", **answers: int) -> Path:
        exits = {"old": 0, "no_venv": 0, "pip_fails": 0} | answers
        path = self.tools / name
        path.write_text(INTERPRETER.format(version=version, **exits))
        path.chmod(0o755)
        return path

    def call(self, kind: str = "run", **variables: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "VENV")}
        environment = kept | {"PATH": str(self.tools)} | variables
        command = [str(self.tools / "bash"), ".ci/environment", kind]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    @property
    def installed(self) -> list[str]:
        log = self.folder / "pip.log"
        return [line.split()[-1] for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_the_first_call_says_what_it_costs_and_the_second_does_nothing(clone: Clone) -> None:
    clone.interpreter("python3")
    first = clone.call()
    assert first.returncode == 0, first.stderr
    assert "6.8 GB" in first.stdout
    assert "2 minutes" in first.stdout
    second = clone.call()
    assert (second.returncode, second.stdout) == (0, "")
    assert clone.installed == ["."]


def test_a_changed_pyproject_is_installed_again(clone: Clone) -> None:
    clone.interpreter("python3")
    clone.call()
    with (clone.folder / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert "up to date" in clone.call().stdout
    assert clone.call().stdout == ""
    assert clone.installed == [".", "."]


def test_the_tests_environment_serves_the_program_too(clone: Clone) -> None:
    clone.interpreter("python3")
    clone.call("run")
    clone.call("test")
    clone.call("run")
    clone.call("test")
    assert clone.installed == [".", ".[test,rtx]"]


def test_an_installation_that_failed_is_not_taken_for_done(clone: Clone) -> None:
    clone.interpreter("python3", pip_fails=1)
    assert clone.call().returncode != 0
    clone.interpreter("python3")
    shutil.copy(clone.tools / "python3", clone.folder / ".venv" / "bin" / "python")
    assert clone.call().returncode == 0
    assert clone.installed == [".", "."]


def test_an_interpreter_that_will_do_is_looked_for(clone: Clone) -> None:
    clone.interpreter("python3", "3.9.2", old=1)
    clone.interpreter("python3.11")
    assert "Python 3.11.7" in clone.call().stdout


def test_another_interpreter_makes_the_environment_anew(clone: Clone) -> None:
    clone.interpreter("python3")
    clone.call()
    other = clone.interpreter("other", "3.12.1")
    assert "First installation" in clone.call(PYTHON=str(other)).stdout
    assert clone.call(PYTHON=str(other)).stdout == ""
    assert clone.call().stdout == ""


def test_a_broken_environment_is_made_anew(clone: Clone) -> None:
    clone.interpreter("python3")
    clone.call()
    (clone.folder / ".venv" / "bin" / "python").unlink()
    assert "First installation" in clone.call().stdout


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [({"old": 1}, "python3 is Python 3.11.7, too old"), ({"no_venv": 1}, "python3 lacks venv")],
)
def test_what_is_wrong_is_one_line(clone: Clone, answers: dict[str, int], complaint: str) -> None:
    clone.interpreter("python3", **answers)
    answer = clone.call()
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 1
    assert complaint in answer.stderr
    assert not (clone.folder / ".venv").exists()


def test_an_interpreter_that_is_not_there_is_named(clone: Clone) -> None:
    answer = clone.call(PYTHON="python9")
    assert answer.returncode == 2
    assert "python9 was not found" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_an_unknown_kind_is_refused(clone: Clone) -> None:
    assert clone.call("fly").returncode == 2


def test_every_target_is_in_the_help() -> None:
    answer = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True, timeout=60)
    targets = [line.split()[1] for line in answer.stdout.splitlines() if line.startswith("make ") and "]" not in line]
    assert targets == ["bench", "gpu", "test", "verify-all", "lint", "kills", "clean", "help"]
