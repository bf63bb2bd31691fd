"""`vggbench gate` inside the test's process, on the fake backend, and as processes of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import CommandLine
from tests.fakes import ARGUMENTS, InlineWorker
from tests.gate.two_sides import Scripted, journal_lines
from tests.killing import await_line, begin, children_of, ended
from vggbench.gate.environments import PythonEnvironment, look
from vggbench.measure.client import WORKER_MODULE, BackendProbe

ONE = (*ARGUMENTS, "--backend", "fake:latency_ms=20", "--precision", "fp32", "--threads", "1")
Scripts = dict[str, dict[str, str]]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch, inline_workers: None) -> Scripts:
    """Further options of the fake's sessions by interpreter; `base` and `head` are two names of this environment."""
    found: Scripts = {}

    def start(*, python: str, variables: Any = None, **settings: Any) -> InlineWorker:
        return Scripted(found.get(python, {}), **settings)

    here = look("base", sys.executable)

    def see(side: str, place: str, **_: Any) -> PythonEnvironment:
        if place not in ("base", "head"):
            return look("base", place)
        return PythonEnvironment(
            python=place, prefix=f"/{place}", version=here.version, distributions={"torch": f"2.{len(side + place)}"}
        )

    monkeypatch.setattr("vggbench.gate.environments.WorkerClient", start)
    monkeypatch.setattr("vggbench.gate.environments.look", see)
    return found


@pytest.fixture
def places(tmp_path: Path, fake_exports: Path) -> tuple[str, ...]:
    return ("--output", str(tmp_path / "gate"), "--exports", str(fake_exports))


def test_the_same_on_both_sides_is_0_and_resumed_it_says_the_same(
    command_line: CommandLine, scripts: Scripts, places: tuple[str, ...], tmp_path: Path
):
    said = command_line("gate", "--base", "base", "--head", "head", *ONE, *places)
    assert said.code == 0, said.err
    first, *_, last = said.out.splitlines()
    assert first == "torch: 2.8 -> 2.8" or "difference" in first
    assert "1 PASS" in said.out
    assert "outputs: the same to the bit" in last
    assert f"kept in {tmp_path / 'gate'}" in said.err
    again = command_line("gate", "--resume", *places)
    assert (again.code, again.out) == (0, said.out)


def test_a_slower_head_is_1_and_json_says_by_how_much(
    command_line: CommandLine, scripts: Scripts, places: tuple[str, ...]
):
    scripts["head"] = {"latency_ms": "21"}
    said = command_line("gate", "--base", "base", "--head", "head", *ONE, *places, "--format", "json")
    assert (said.code, said.message) == (1, "vggbench: 1 slower of 1 cells; their reasons are above")
    (verdict,) = json.loads(said.out)["cells"]
    assert (verdict["verdict"], verdict["ratio"]) == ("REGRESSED", pytest.approx(1.05))
    assert "cells that may be slower are measured again, in fresh rounds: 1" in said.err


def test_tolerance_and_budget_are_declared_in_percent(
    command_line: CommandLine, scripts: Scripts, places: tuple[str, ...]
):
    scripts["head"] = {"latency_ms": "21"}
    limits = ("--tolerance-percent", "6", "--budget-percent", "8")
    assert command_line("gate", "--base", "base", "--head", "head", *ONE, *places, *limits).code == 0


def test_inconclusive_is_3_unless_it_passes(command_line: CommandLine, scripts: Scripts, places: tuple[str, ...]):
    scripts["head"] = {"latency_ms": "20.2"}  # within the tolerance, and an interval of no width: PASS
    limits = ("--tolerance-percent", "0.5", "--budget-percent", "0.6")
    arguments = ("gate", "--base", "base", "--head", "head", *ONE, *places)
    assert command_line(*arguments, *limits).code == 1
    assert command_line("gate", "--resume", *places, "--inconclusive", "pass").code == 1


def test_other_outputs_are_1(command_line: CommandLine, scripts: Scripts, places: tuple[str, ...]):
    scripts["head"] = {"fault": "wrong"}
    said = command_line("gate", "--base", "base", "--head", "head", *ONE, *places)
    assert (said.code, said.message) == (1, "vggbench: 1 with other outputs of 1 cells; their reasons are above")


def test_a_head_that_fails_is_5(command_line: CommandLine, scripts: Scripts, places: tuple[str, ...]):
    scripts["head"] = {"fault": "open"}
    said = command_line("gate", "--base", "base", "--head", "head", *ONE, *places)
    assert (said.code, said.message) == (5, "vggbench: 1 of 1 cells failed to build or to run; their reasons are above")


def test_a_precision_that_head_has_not_any_more_is_4(
    command_line: CommandLine, scripts: Scripts, places: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    def probe(name: str, device: str, start: Any) -> BackendProbe:
        bf16 = "no bf16 there" if start.python == "head" else ""
        precisions = {"fp32": "", "bf16": bf16}
        return BackendProbe(name=name, available=True, version="1", reason="", remedy="", precisions=precisions)

    monkeypatch.setattr("vggbench.gate.choice.probe", probe)
    cells = (*ARGUMENTS, "--backend", "fake:latency_ms=20", "--precision", "fp32,bf16", "--threads", "1")
    said = command_line("gate", "--base", "base", "--head", "head", *cells, *places)
    assert said.code == 4
    assert "is not in head: no bf16 there" in said.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name the head environment with --head, or what to change in a copy with --head-with"),
        (("--head", "head", "--head-with", "a==1"), "name the head environment with --head, or what to change"),
        (("--head", "{}/none"), "none is not there; give the folder of a Python environment, or its interpreter"),
        (("--head", "head", "--budget-percent", "0.5"), "the budget is 0.005; it must be more than the tolerance"),
        (("--head", "head", "--backend", "nope"), "unknown backend 'nope'"),
        (("--head-with", "--upgrade"), "--head-with '--upgrade' is no requirement"),
        (("--resume",), "--resume needs --output: the folder of the gate to continue"),
        (("--resume", "--head", "head"), "--resume continues the gate as it was declared"),
        (("--resume", "--output", "{}"), "holds no gate: gate.json is missing"),
        (("--head", "head", "--plan", "{}/no.toml"), "no.toml cannot be read"),
    ],
)
def test_a_wrong_request_is_2_and_writes_nothing(
    command_line: CommandLine, scripts: Scripts, tmp_path: Path, arguments: tuple[str, ...], words: str
):
    said = command_line("gate", *(text.format(tmp_path) for text in arguments))
    assert said.code == 2, said.err
    assert words in said.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="waits for other processes in Linux's way")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_gate_that_is_stopped_ends_its_workers_and_goes_on(
    tmp_path: Path, fake_exports: Path, number: signal.Signals
):
    places = ("--output", tmp_path / "gate", "--exports", fake_exports)
    with begin("gate", "--head", sys.prefix, *ONE, *places) as process:
        await_line(process, "[2/")
        workers = children_of(process)
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=120)
    done = len(journal_lines(tmp_path / "gate"))
    assert ended(workers)
    assert (out, 2 <= done < 7) == ("", True)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert err.splitlines()[-1].startswith(f"vggbench: stopped after {done} paired rounds; continue with: vggbench")
    with begin("gate", "--resume", *places) as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "1 PASS" in out
    assert len(journal_lines(tmp_path / "gate")) == 7


@pytest.mark.slow
def test_a_process_that_dies_on_one_side_alone_ends_in_5(command_line: CommandLine, tmp_path: Path, fake_exports: Path):
    """With processes of its own, of which head's are killed from the second worker on: the first one is asked only."""
    head, probed = tmp_path / "python", tmp_path / "probed"
    script = f'if [ "$3" = {WORKER_MODULE} ]; then [ -e {probed} ] && kill -9 $$; touch {probed}; fi'
    head.write_text(f'#!/bin/sh\n{script}\nexec {sys.executable} "$@"\n')
    head.chmod(0o755)
    places = ("--output", tmp_path / "gate", "--exports", fake_exports)
    said = command_line("gate", "--head", head, *ONE, *places)
    assert said.code == 5, said.err
    assert "head: round 1 of stage 1 at start: the worker was killed by SIGKILL" in said.out
    assert len(journal_lines(tmp_path / "gate")) == 1
