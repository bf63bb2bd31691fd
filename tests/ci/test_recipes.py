"""The recipes for CI systems, run as they stand, on the fake backend.

Environments are made by a stand-in for `python3 -m venv`, whose pip installs nothing: an installation takes minutes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.fakes import ARGUMENTS
from tests.meta.repository import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="needs bash")]

CELLS = " ".join((*ARGUMENTS, "--backend", "fake:latency_ms=20", "--precision", "fp32", "--threads", "1"))
# Writes down what it is asked; an environment's python is this one, but for its pip.
PYTHON = """#!/bin/sh
echo "$(basename "$0") $*" >> "{folder}/log"
case "$*" in
    "-m venv "*)
        mkdir -p "$3/bin"
        cp "$0" "$3/bin/python"
        printf '#!/bin/sh\\nexec "{python}" -m vggbench "$@"\\n' > "$3/bin/vggbench"
        chmod +x "$3/bin/vggbench" ;;
    "-m pip install"*) ;;
    *) exec "{python}" "$@" ;;
esac
"""
REPOSITORY = ("init -q -b main", "add .", "commit -q -m old", "update-ref refs/remotes/origin/main HEAD")


def workflow_commands() -> list[str]:
    """Return the shell blocks of the workflow's steps, in order."""
    text = (ROOT / "ci" / "github-gate.yml").read_text()
    blocks = re.findall(r"^ {8}run: \|\n((?: {10}.*\n)+)", text, re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository whose requirements have changed since the base."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    python = folder.parent / "tools" / "python3"
    python.parent.mkdir()
    python.write_text(PYTHON.format(folder=tmp_path, python=sys.executable))
    python.chmod(0o755)
    (folder / "requirements.txt").write_text("numpy==2.1\n")
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    for command in REPOSITORY:
        subprocess.run(["git", *identity, *command.split()], cwd=folder, check=True)
    (folder / "requirements.txt").write_text("numpy==2.2\n")
    return folder


def call(command: list[str], checkout: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{checkout.parent / 'tools'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "CELLS": CELLS, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, check=False, timeout=200
    )


def test_the_workflows_steps_gate_a_change_and_write_the_summary(checkout: Path):
    summary = checkout.parent / "summary.md"
    steps = workflow_commands()
    assert len(steps) == 2
    for step in steps:
        variables = {"GITHUB_BASE_REF": "main", "GITHUB_STEP_SUMMARY": str(summary), "VGGBENCH": "here"}
        answer = call(["bash", "-e", "-c", step], checkout, **variables)
        assert answer.returncode == 0, answer.stderr
    assert (checkout / "base-requirements.txt").read_text() == "numpy==2.1\n"
    assert "PASS" in summary.read_text()
    assert (checkout / "gate-run" / "gate.json").exists()
    log = (checkout.parent / "log").read_text()
    assert "-m pip install --requirement requirements.txt" in log
    assert "-m pip install here" in log


def test_the_shell_recipe_writes_junit_and_run_again_it_goes_on(checkout: Path):
    command = ["bash", str(ROOT / "ci" / "gate.sh")]
    (checkout / "old.txt").write_text("numpy==2.1\n")
    answers = [call(command, checkout, BASE="old.txt", HEAD="requirements.txt") for _ in range(2)]
    assert [answer.returncode for answer in answers] == [0, 0], answers[0].stderr
    root = ET.parse(checkout / "gate.xml").getroot()
    assert len(list(root.iter("testcase"))) == 1
    assert not list(root.iter("failure"))
    log = (checkout.parent / "log").read_text()
    assert log.count("-m pip install vggbench") == 1  # not made again


def test_a_failing_step_ends_the_shell_recipe_at_once(checkout: Path):
    answer = call(["bash", str(ROOT / "ci" / "gate.sh")], checkout, BASE="old.txt")
    assert answer.returncode != 0
    assert "HEAD: unbound variable" in answer.stderr
