"""Tables for a terminal: never a cell cut short, whatever the terminal's width.

Imports rich inside its functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

UNBOUNDED = 10_000  # columns: wider than any table, so that the measurement is the table's own


def plain_table(**settings: object) -> Table:
    """Return an empty table ruled under its heads alone, with one blank between columns."""
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE, show_edge=False, padding=0, caption_justify="left", **settings)  # type: ignore[arg-type]


def print_table(table: Table) -> None:
    """Print a table on stdout at the width it needs, beyond the terminal's if it must."""
    from rich.console import Console
    from rich.measure import Measurement

    for column in table.columns:
        column.no_wrap = True
    console = Console()
    needed = Measurement.get(console, console.options.update(width=UNBOUNDED), table).maximum
    console.width = max(console.width, needed)
    console.print(table, crop=False)
