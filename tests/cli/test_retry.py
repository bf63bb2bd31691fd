"""`vggbench run --resume --retry-failed` on the fake backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.fakes import ARGUMENTS
from vggbench.backends.fake import FakeBackend

pytestmark = pytest.mark.usefixtures("inline_workers")


def test_failed_rounds_are_tried_again_on_demand(
    command_line: CommandLine, tmp_path: Path, fake_exports: Path, monkeypatch: pytest.MonkeyPatch
):
    places = ("--output", tmp_path / "run", "--exports", fake_exports)
    plan = ("--backend", "fake", "--precision", "fp32", "--rounds", "2", "--time-budget-s", "0.05", "--threads", "1")
    with monkeypatch.context() as patch:
        patch.setattr(FakeBackend, "open", lambda *_, **__: 1 / 0)
        assert command_line("run", *ARGUMENTS, *plan, *places).code == 5
    assert command_line("run", "--resume", *places).code == 5
    said = command_line("run", "--resume", "--retry-failed", *places)
    assert said.code == 0
    assert "1 of 2 rounds failed before and were measured when tried again" in said.out


def test_trying_again_needs_a_run_to_go_on_with(command_line: CommandLine):
    said = command_line("run", "--retry-failed")
    assert said.code == 2
    assert said.message == "vggbench: --retry-failed needs --resume, and --output with the run's folder"
