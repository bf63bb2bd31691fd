"""A gate's report on stdout, in the format that was asked for. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vggbench.errors import RequestError

if TYPE_CHECKING:
    from vggbench.gate.formats import FormatName
    from vggbench.gate.records import GateReport, Rule

# Written out: what it is read from loads numpy.
FormatOption = Annotated[
    Literal["table", "markdown", "json", "junit", "github"],
    typer.Option(
        "--format",
        help="github: annotations on stdout, and the page at the end of the file that GITHUB_STEP_SUMMARY names.",
    ),
]
InconclusiveOption = Annotated[
    Literal["pass", "fail"],
    typer.Option("--inconclusive", help="Whether cells that are INCONCLUSIVE end in 0 or in 3; INVALID ends in 3."),
]


ToleranceOption = Annotated[
    float | None,
    typer.Option(
        "--tolerance-percent",
        metavar="PERCENT",
        help="A slowdown up to this is none; 1 without it.",
        show_default=False,
    ),
]
BudgetOption = Annotated[
    float | None,
    typer.Option(
        "--budget-percent",
        metavar="PERCENT",
        help="PASS says that a cell is slower by less than this; 3 without it.",
        show_default=False,
    ),
]


def rule_of(tolerance_percent: float | None, budget_percent: float | None) -> Rule:
    """Return the rule with these limits; `RequestError` where they are none."""
    from vggbench.gate.records import BUDGET, TOLERANCE, Rule

    return Rule(
        tolerance=TOLERANCE if tolerance_percent is None else tolerance_percent / 100,
        budget=BUDGET if budget_percent is None else budget_percent / 100,
    )


def print_verdicts(report: GateReport, form: FormatName) -> None:
    """Print the report; raises `RequestError` where GitHub's summary cannot be written."""
    if form == "table":
        _print_table(report)
    elif form == "github":
        _print_github(report)
    else:
        print(_document(report, form))


def _document(report: GateReport, form: FormatName) -> str:
    if form == "json":
        from vggbench.gate.formats import to_json

        return to_json(report)
    if form == "junit":
        from vggbench.gate.junit import document

        return document(report)
    from vggbench.gate.markdown import page

    return page(report).rstrip()


def _print_table(report: GateReport) -> None:
    from vggbench.cli.results import print_table_of
    from vggbench.gate.formats import HEADINGS, head_lines, headline, rule_lines, table_lines

    print("\n".join(head_lines(report)))
    lines = table_lines(report)
    if lines:
        print_table_of(HEADINGS[:-1], [texts[:-1] for texts in lines])
    for verdict, title, *_, why in lines:
        if why:
            print(f"{title}: {verdict}: {why}")
    print("\n".join([headline(report), *rule_lines(report)]))


def _print_github(report: GateReport) -> None:
    from vggbench.gate.github import summary, workflow_commands

    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        print(summary(report))
    else:
        _append(Path(name), report)
    if lines := workflow_commands(report):
        print(lines)


def _append(path: Path, report: GateReport) -> None:
    from vggbench.gate.github import summary

    try:
        present = path.stat().st_size if path.exists() else 0
        with path.open("a", encoding="utf-8") as file:
            file.write(summary(report, present))
    except OSError as error:
        raise RequestError(f"GITHUB_STEP_SUMMARY {path} cannot be written: {error.strerror}") from None
    except ValueError as error:
        raise RequestError(f"GITHUB_STEP_SUMMARY {path} is full: {error}") from None
