"""`vggbench audit`: does a table of measurements agree with itself and with what a VGG is? Imports nothing heavy."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vggbench.cli.options import JsonOption
from vggbench.errors import CheckFailed, NothingToJudge

if TYPE_CHECKING:
    from vggbench.audit.comparison import Comparison
    from vggbench.audit.table import Table

TableArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN_OR_TABLE", help="A run's folder, or a CSV, TSV or Markdown table of anybody's.", show_default=False
    ),
]


def audit(table: TableArgument, json_output: JsonOption = False) -> None:
    """Find rows of a table that contradict each other or the network; exit with 1 if there are any.

    The table has a column of variants and one of latency (its unit in the heading) or throughput in images a second.
    """
    from vggbench.audit.rules import compare_all
    from vggbench.audit.table import read_table

    found = read_table(table)
    comparisons = compare_all(found.entries)
    if json_output:
        print(json.dumps(_document(found, comparisons), indent=1))
    else:
        _print(found, comparisons)
    if not comparisons:
        raise NothingToJudge(f"{table}: {len(found.entries)} rows of VGGs, and nothing in them that can be compared")
    if wrong := sum(bool(comparison.contradiction) for comparison in comparisons):
        raise CheckFailed(f"{table}: {wrong} contradictions in {len(comparisons)} comparisons; they are above")


def _document(table: Table, comparisons: list[Comparison]) -> dict[str, Any]:
    return {
        "rows": len(table.entries),
        "other_rows": table.others,
        "comparisons": dict(Counter(comparison.rule for comparison in comparisons)),
        "contradictions": [
            {
                "rule": comparison.rule,
                "lines": [entry.line for entry in comparison.entries],
                "rows": [entry.title for entry in comparison.entries],
                "contradiction": comparison.contradiction,
            }
            for comparison in comparisons
            if comparison.contradiction
        ],
    }


def _print(table: Table, comparisons: list[Comparison]) -> None:
    for comparison in comparisons:
        if comparison.contradiction:
            print(f"{comparison.rule}: {comparison.entries[0].title} {comparison.contradiction}")
    counts = Counter(comparison.rule for comparison in comparisons)
    compared = ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
    print(f"{len(table.entries)} rows, comparisons: {compared}")
    if table.others:
        print(f"{table.others} rows of other networks were not looked at")
