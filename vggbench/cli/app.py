"""The command line: which commands there are and how `--help` groups them. Imports nothing heavy."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vggbench.cli.accuracy import accuracy
from vggbench.cli.audit import audit
from vggbench.cli.baseline import app as baseline
from vggbench.cli.compare import compare
from vggbench.cli.doctor import doctor
from vggbench.cli.export import export
from vggbench.cli.exports import app as exports
from vggbench.cli.gate import gate
from vggbench.cli.list_variants import list_variants
from vggbench.cli.predict import predict
from vggbench.cli.profile import profile
from vggbench.cli.report import report
from vggbench.cli.run import run
from vggbench.cli.show import show
from vggbench.cli.tolerances import tolerances
from vggbench.cli.train import train
from vggbench.cli.verify import verify
from vggbench.errors import RequestError
from vggbench.version import VERSION

_HELP_MARGIN = 6  # blanks beside and between the two columns of a list
# What a wrong option, a missing argument and an unknown command are; typer shows it no other way.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
START, ARTEFACTS, CI, LEARN = "Start", "Artefacts", "CI", "Learn"


class GroupedCommands(TyperGroup):
    """Shows the commands by their groups in plain text too, as rich does on a terminal."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section a group, in the order in which the commands were added."""
        groups: dict[str, list[tuple[str, str]]] = {}
        limit = formatter.width - max(len(name) for name in self.commands) - _HELP_MARGIN
        for name in self.list_commands(ctx):
            command: Any = self.commands[name]
            groups.setdefault(command.rich_help_panel, []).append((name, command.get_short_help_str(limit)))
        for group, rows in groups.items():
            with formatter.section(group):
                formatter.write_dl(rows)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what it cannot read on the command line is one line, as any other wrong request."""
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            message: str = error.format_message()  # type: ignore[attr-defined]
            command = getattr(error, "ctx", None) or ctx
            raise RequestError(f"{message.rstrip('.')}; see {command.command_path} --help") from None


app = typer.Typer(
    cls=GroupedCommands,
    help="Build, export, verify and measure every VGG on every inference backend.",
    epilog="--debug, anywhere, shows the traceback of an error.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stdout.isatty() else None,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"vggbench {VERSION}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that come before a command."""


app.command("run", rich_help_panel=START)(run)
app.command("profile", rich_help_panel=START)(profile)
app.command("accuracy", rich_help_panel=START)(accuracy)
app.command("predict", rich_help_panel=START)(predict)
app.command("doctor", rich_help_panel=START)(doctor)
app.command("export", rich_help_panel=ARTEFACTS)(export)
app.add_typer(exports, name="exports", help="List artefacts, or remove some to make room.", rich_help_panel=ARTEFACTS)
app.command("train", rich_help_panel=ARTEFACTS)(train)
app.command("report", rich_help_panel=ARTEFACTS)(report)
app.add_typer(baseline, name="baseline", help="Keep the runs that later ones are compared with.", rich_help_panel=CI)
app.command("gate", rich_help_panel=CI)(gate)
app.command("verify", rich_help_panel=CI)(verify)
app.command("compare", rich_help_panel=CI)(compare)
app.command("tolerances", rich_help_panel=CI)(tolerances)
app.command("audit", rich_help_panel=CI)(audit)
app.command("list", rich_help_panel=LEARN)(list_variants)
app.command("show", rich_help_panel=LEARN)(show)
