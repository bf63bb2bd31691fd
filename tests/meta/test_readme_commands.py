"""Every `vggbench ...` line in README's shell blocks is one that the command line knows."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from tests.meta.repository import ROOT

README = ROOT / "README.md"
# Ends the part of a line that `vggbench` sees.
SHELL_OPERATORS = {"|", "||", "&&", ";", ">", ">>", "2>"}
# Taken out of the arguments before the application sees them.
ANYWHERE = {"--debug"}


def commands_in(text: str) -> list[list[str]]:
    """Return the arguments of each `vggbench` line of the blocks marked `console`, `bash`, `sh` or `shell`."""
    blocks = re.findall(r"^ *```(?:console|bash|sh|shell)\s*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [_arguments(line) for line in lines if re.match(r"vggbench(\s|$)", line)]


def _arguments(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    end = next((place for place, word in enumerate(words) if word in SHELL_OPERATORS), len(words))
    return words[1:end]


def complaints(command: Any, arguments: list[str]) -> list[str]:
    """Return what the command line does not know among the arguments: a command or an option."""
    wrong, known = [], _options(command)
    for argument in arguments:
        subcommands = getattr(command, "commands", None)
        if argument.startswith("-"):
            if argument.partition("=")[0] not in known | ANYWHERE:
                wrong.append(f"{command.name} has no option {argument}")
        elif subcommands is not None:
            if argument not in subcommands:
                return [*wrong, f"there is no command {argument}"]
            command = subcommands[argument]
            known = _options(command)
    return wrong


def _options(command: Any) -> set[str]:
    return {"--help", *(name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts))}


@pytest.fixture(scope="module")
def root_command() -> Any:
    import typer

    from vggbench.cli.app import app

    return typer.main.get_command(app)


@pytest.mark.skipif(not README.is_file(), reason="there is no README.md")
def test_readmes_commands_exist(root_command: Any) -> None:
    commands = commands_in(README.read_text())
    assert commands, "README shows no command"
    wrong = {shlex.join(arguments): said for arguments in commands if (said := complaints(root_command, arguments))}
    assert wrong == {}


def test_commands_are_found_in_shell_blocks_alone() -> None:
    text = (
        "```console\n$ vggbench run --rounds 3 \\\n    --device cpu  # quick\nvariant  latency\n```\n"
        "```bash\nvggbench list --json | jq . && vggbench no\nvggbenchmark\n```\n```python\nvggbench\n```\n"
    )
    assert commands_in(text) == [["run", "--rounds", "3", "--device", "cpu"], ["list", "--json"]]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("--help", []),
        ("list --json", []),
        ("--debug list", []),
        ("fly --json", ["there is no command fly"]),
        ("list --speed=3", ["list has no option --speed=3"]),
    ],
)
def test_unknown_commands_and_options_are_named(root_command: Any, line: str, wrong: list[str]) -> None:
    assert complaints(root_command, line.split()) == wrong
