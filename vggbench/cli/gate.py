"""`vggbench gate`: two Python environments measured in turn, and a verdict on each cell."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggbench.cli.images import InputsOption, showing
from vggbench.cli.planning import CellChoice, ExportsOption, takes_cells
from vggbench.cli.room import announce_plan
from vggbench.cli.run import OutputOption
from vggbench.cli.verdicts import (
    BudgetOption,
    FormatOption,
    InconclusiveOption,
    ToleranceOption,
    print_verdicts,
    rule_of,
)
from vggbench.errors import RequestError

if TYPE_CHECKING:
    from vggbench.gate.environments import PythonEnvironment
    from vggbench.gate.records import GateReport, Rule, Side

_SIDES = "Sides"

BaseOption = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="ENV",
        help="The Python environment before the change: its folder or its interpreter. Without it, this one.",
        show_default=False,
        rich_help_panel=_SIDES,
    ),
]
HeadOption = Annotated[
    str | None,
    typer.Option(
        "--head",
        metavar="ENV",
        help="The one after it, likewise; it needs no vggbench.",
        show_default=False,
        rich_help_panel=_SIDES,
    ),
]
HeadWithOption = Annotated[
    list[str] | None,
    typer.Option(
        "--head-with",
        metavar="REQUIREMENT",
        help="Instead of --head: a copy of the base in which pip installs this, as 'openvino==2026.3.*'. Repeatable.",
        show_default=False,
        rich_help_panel=_SIDES,
    ),
]
ResumeOption = Annotated[
    bool,
    typer.Option("--resume", help="Continue the gate in --output where it stopped.", rich_help_panel="Places"),
]


@takes_cells
def gate(
    choice: CellChoice,
    base: BaseOption = None,
    head: HeadOption = None,
    head_with: HeadWithOption = None,
    data: InputsOption = None,
    tolerance: ToleranceOption = None,
    budget: BudgetOption = None,
    inconclusive: InconclusiveOption = "fail",
    output: OutputOption = None,
    exports: ExportsOption = Path("exports"),
    resume: ResumeOption = False,
    form: FormatOption = "table",
) -> None:
    """Say whether a change of libraries made anything slower, or compute something else.

    Both environments run this vggbench's own source, in fresh processes that take turns on the same cores.

    Exits with 0 if every cell is shown not to be slower, with 1 if one is, or its outputs are others.
    """
    from vggbench.gate.environments import own_source

    sides = _Sides(base, head, tuple(head_with or ()))
    with own_source() as variables:
        if resume:
            others = (base, head, head_with, data, tolerance, budget)
            if choice.is_given or any(value is not None for value in others):
                raise RequestError(
                    "--resume continues the gate as it was declared; give no cells, sides or rule beside it"
                )
            report = _resume(output, exports, variables)
        else:
            report = _start(choice, sides, rule_of(tolerance, budget), data, output, exports, variables)
    report = replace(report, inconclusive_passes=inconclusive == "pass")
    print_verdicts(report, form)
    error = report.error()
    if error is not None:
        raise error


@dataclass(frozen=True, slots=True)
class _Sides:
    """What the command line says of the two sides."""

    base: str | None
    head: str | None
    changes: tuple[str, ...]

    def find(self) -> dict[Side, PythonEnvironment]:
        """Look at both environments, of which the head may be built first."""
        from vggbench.cli.progress import say
        from vggbench.gate.copying import copy_with, default_cache
        from vggbench.gate.environments import look

        if (self.head is None) == (not self.changes):
            raise RequestError("name the head environment with --head, or what to change in a copy with --head-with")
        base = look("base", sys.executable if self.base is None else self.base)
        if self.head is not None:
            return {"base": base, "head": look("head", self.head)}
        say(f"building the head environment: a copy of {base.prefix} with {', '.join(self.changes)}")
        return {"base": base, "head": copy_with(base, self.changes, default_cache())}


def _start(
    choice: CellChoice,
    sides: _Sides,
    rule: Rule,
    data: Path | None,
    output: Path | None,
    exports: Path,
    variables: Mapping[str, str],
) -> GateReport:
    from vggbench.cli.progress import progress, say
    from vggbench.gate.choice import BothSides
    from vggbench.gate.environments import starters
    from vggbench.gate.paired import new_gate, start_gate
    from vggbench.plan import Pace
    from vggbench.runner import Places, default_folder

    file = choice.read_file()
    environments = sides.find()
    started = starters(environments, variables)
    probe = BothSides(started)
    cells, _versions = choice.read_cells(file, probe)
    cells = showing(data, exports)(cells)
    announce_plan(Pace(rounds=1).plan(cells), exports)
    lacks = {cell.id: found for cell in cells if not cell.unsupported and (found := probe.lack(cell))}
    places = Places(folder=output or default_folder(), exports=exports)
    info = new_gate(cells, environments, lacks, rule, seed=file.seed if file else None)
    with progress() as observer:
        report = start_gate(info, places, started, observer)
    say(f"kept in {places.folder}")
    return report


def _resume(output: Path | None, exports: Path, variables: Mapping[str, str]) -> GateReport:
    from vggbench.cli.progress import progress
    from vggbench.gate.environments import SIDES, look, starters
    from vggbench.gate.gate_info import read_gate_info
    from vggbench.gate.paired import resume_gate
    from vggbench.runner import Places

    if output is None:
        raise RequestError("--resume needs --output: the folder of the gate to continue")
    info = read_gate_info(output)  # says that there is no gate before anything is looked at
    environments = {side: look(side, info.sides[side].python) for side in SIDES}
    with progress() as observer:
        places = Places(folder=output, exports=exports)
        return resume_gate(places, environments, starters(environments, variables), observer)
