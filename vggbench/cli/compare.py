"""`vggbench compare`: is a stored run slower than others? Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    from vggbench.gate.stored import StoredRun

RunsArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="BASE_RUN... CANDIDATE_RUN",
        help="Folders of runs, folders that hold several, or files of pytest-benchmark; the last is the candidate.",
        show_default=False,
    ),
]
ChangedOption = Annotated[
    list[str] | None,
    typer.Option(
        "--changed",
        metavar="WHAT",
        help="What is under test: driver, gpu, cpu, python, system, variables, vggbench, commit, a library such as "
        "torch, or a dotted name. Anything else that differs is refused. Repeatable, and WHAT,WHAT.",
        show_default=False,
    ),
]


def compare(
    runs: RunsArgument,
    changed: ChangedOption = None,
    tolerance: ToleranceOption = None,
    budget: BudgetOption = None,
    inconclusive: InconclusiveOption = "fail",
    form: FormatOption = "table",
) -> None:
    """Hold a stored run against base runs; exit with 1 if a cell is slower than they let expect of one more of them.

    One stored run does not show how much two runs differ: with fewer than 5 base runs, INCONCLUSIVE is the most.
    """
    from vggbench.gate.comparing import compare as compare_runs
    from vggbench.gate.stored import read_runs

    if len(runs) < 2:
        raise RequestError("compare needs a base run and a candidate: give two folders, the candidate last")
    rule = rule_of(tolerance, budget)
    bases = [run for path in runs[:-1] for run in read_runs(path)]
    candidates = read_runs(runs[-1])
    if len(candidates) != 1:
        raise RequestError(f"{runs[-1]} holds {len(candidates)} runs; the candidate is one")
    _refuse_repeated([*bases, *candidates])
    named = [name for text in changed or () for name in text.split(",")]
    report = compare_runs(bases, candidates[0], rule, named, inconclusive_passes=inconclusive == "pass")
    print_verdicts(report, form)
    if (error := report.error()) is not None:
        raise error


def _refuse_repeated(runs: list[StoredRun]) -> None:
    """One run in several places would make runs look more alike than they are."""
    places = [Path(run.name).resolve() for run in runs]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise RequestError(f"{runs[number].name} is given twice; each run counts once")
