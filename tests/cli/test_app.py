"""What `--help` says, all of it: `VGGBENCH_WRITE_GOLDENS=1` in the environment writes the goldens again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.cli.conftest import CommandLine
from vggbench.cli.app import app

GOLDENS = Path(__file__).with_name("goldens")
WIDTH = 100
TYPER = "0.29"  # lines break elsewhere in others; what the help says is tested besides
COMMANDS = (
    *("", "run", "profile", "accuracy", "predict", "doctor", "export", "exports", "report", "verify", "audit"),
    *("tolerances", "list", "show", "train", "baseline", "compare", "gate"),
)
SUBCOMMANDS = ("baseline refresh", "exports list", "exports prune")
HELPS = (*COMMANDS, *SUBCOMMANDS)

# Renders every help as on a terminal, without colours.
RENDER = f"""
import contextlib, io, json, sys
sys.stdout.isatty = lambda: True
import vggbench.cli.app
from vggbench.__main__ import main
helps = {{}}
for command in {HELPS}:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    helps[command] = text.getvalue()
json.dump(helps, sys.stdout)
"""


def golden(command: str) -> Path:
    return GOLDENS / f"{command.replace(' ', '-') or 'vggbench'}.txt"


def find_command(path: str) -> Any:
    """Return what `vggbench PATH` runs."""
    found: Any = typer.main.get_command(app)
    for name in path.split():
        found = found.commands[name]
    return found


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    styled = ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TYPER_", "COLORTERM")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(styled)}
    fixed = {"COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    answer = subprocess.run(
        [sys.executable, "-c", RENDER], env=kept | fixed, capture_output=True, text=True, check=True, timeout=60
    )
    return {
        command: "".join(f"{line.rstrip()}\n" for line in text.strip("\n").splitlines())
        for command, text in json.loads(answer.stdout).items()
    }


@pytest.mark.skipif(
    not version("typer").startswith(f"{TYPER}."), reason=f"the goldens are as typer {TYPER} lays out a help"
)
@pytest.mark.parametrize("command", HELPS)
def test_the_help_is_the_golden(helps: dict[str, str], command: str):
    path = golden(command)
    if os.environ.get("VGGBENCH_WRITE_GOLDENS"):
        path.write_text(helps[command])
    assert helps[command] == path.read_text(), "if that is meant, VGGBENCH_WRITE_GOLDENS=1 writes the goldens again"


def test_there_is_a_golden_for_every_command():
    commands = find_command("").commands
    below = {f"{name} {sub}" for name, command in commands.items() for sub in getattr(command, "commands", ())}
    assert set(COMMANDS) == {"", *commands}
    assert set(SUBCOMMANDS) == below
    assert set(GOLDENS.iterdir()) == {golden(command) for command in HELPS}


def test_the_goldens_fit_their_width():
    assert max(len(line) for path in GOLDENS.iterdir() for line in path.read_text().splitlines()) <= WIDTH


def order_of(text: str) -> list[str]:
    """Return groups and commands as they follow each other in a help, whatever stands between them."""
    groups = "Start|Artefacts|CI|Learn"
    commands = "|".join(COMMANDS[1:])
    return re.findall(rf"^(?:╭─ |)({groups})(?=:$| ─)|^(?:│|  ?) ?({commands})(?=  )", text, re.MULTILINE)


def test_commands_are_grouped_on_a_terminal_and_elsewhere(helps: dict[str, str], command_line: CommandLine):
    grouped = [
        "Start",
        "run",
        "profile",
        "accuracy",
        "predict",
        "doctor",
        "Artefacts",
        "export",
        "train",
        "report",
        "exports",
        "CI",
        "gate",
        "verify",
        "compare",
        "tolerances",
        "audit",
        "baseline",
        "Learn",
        "list",
        "show",
    ]
    for text in (helps[""], command_line("--help").out):
        assert ["".join(found) for found in order_of(text)] == grouped


@pytest.mark.parametrize("command", HELPS[1:])
def test_elsewhere_than_on_a_terminal_the_help_has_every_option_in_plain_text(command_line: CommandLine, command: str):
    said = command_line(*command.split(), "--help")
    assert said.code == 0
    options = {name for option in find_command(command).params for name in option.opts}
    assert all(name in said.out for name in options if name.startswith("--"))
    assert "│" not in said.out
    assert "\x1b" not in said.out


def test_without_a_command_there_is_help_and_2(command_line: CommandLine):
    said = command_line()
    assert said.code == 2
    assert "Learn:" in said.err
