"""Rows on stdout, and the exit code they end in. Imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from vggbench.cli.tables import plain_table, print_table
from vggbench.errors import CellError, CheckFailed, NothingToJudge, VggbenchError

if TYPE_CHECKING:
    from vggbench.results.columns import Row


def print_json(rows: Sequence[Row]) -> None:
    """Print the rows as a JSON list; the names are the CSV's columns."""
    print(json.dumps([asdict(row) for row in rows], indent=1))


def print_rows(headings: Sequence[str], rows: Sequence[Row], texts: Callable[[Row], Sequence[str]]) -> None:
    """Print one line a row; columns that are empty in all of them are left out."""
    print_table_of(headings, [texts(row) for row in rows])


def print_table_of(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print lines of texts; columns that are empty in all of them are left out."""
    from rich.text import Text

    shown = [number for number in range(len(headings)) if any(line[number] for line in lines)]
    table = plain_table()
    for number in shown:
        table.add_column(headings[number], justify="left" if number < 3 or number == len(headings) - 1 else "right")
    for line in lines:
        table.add_row(*(Text(line[number]) for number in shown))  # texts of users, not rich's markup
    print_table(table)


def print_reasons(rows: Sequence[Row]) -> None:
    """Print why rows are what they are."""
    from vggbench.report.table import row_title

    for row in rows:
        if row.reasons:
            print(f"{row_title(row)}: {row.status}: {row.reasons}")


def print_report(rows: Sequence[Row]) -> None:
    """Print a run's table, best first, and why rows are what they are."""
    from vggbench.report.table import HEADINGS, best_first, table_cells

    ordered = best_first(rows)
    print_rows(HEADINGS, ordered, table_cells)
    print_reasons(ordered)


def judge(rows: Sequence[Row], *, strict: bool) -> None:
    """Raise the error whose exit code the rows end in, if any does.

    A row is unsupported only where its precision was asked for by name, so `strict` counts it.
    """
    error = _verdict(rows, strict=strict)
    if error is not None:
        raise error


def judge_verification(rows: Sequence[Row]) -> None:
    """Raise as `judge` does, and where something else ran than was asked: that proves nothing of what was asked."""
    judge(rows, strict=False)
    if other := sum(row.status in {"precision_mismatch", "fallback"} for row in rows):
        raise CheckFailed(f"{other} of {len(rows)} rows ran as something else than was asked; their reasons are above")


def _verdict(rows: Sequence[Row], *, strict: bool) -> VggbenchError | None:
    statuses = [row.status or "" for row in rows]
    if lost := statuses.count("parity_failed"):
        return CheckFailed(f"{lost} of {len(rows)} rows failed parity; their reasons are above")
    if statuses.count("unsupported") == len(rows):
        return NothingToJudge("every cell is unsupported here; their reasons are above")
    if failed := statuses.count("failed") + statuses.count("timeout"):
        return CellError(f"{failed} of {len(rows)} rows failed; their reasons are above")
    doubtful = len(rows) - statuses.count("ok")
    if strict and doubtful:
        return CellError(f"{doubtful} of {len(rows)} rows are not ok and --strict was asked; their reasons are above")
    return None
