"""`vggbench verify`: does every backend compute the same function? Nothing is timed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggbench.cli.images import InputsOption, showing
from vggbench.cli.options import JsonOption
from vggbench.cli.planning import CellChoice, ExportsOption, takes_cells
from vggbench.cli.room import announce_plan

if TYPE_CHECKING:
    from vggbench.parity.bisect import Bisection, Depth
    from vggbench.results.columns import Row

_HEADINGS = (
    *("variant", "backend", "precision", "batch", "error", "tolerance", "quantised", "cosine", "top-1", "ran"),
    "verdict",
)


_DEPTHS = ("depth", "layer", "operation", "error", "tolerance", "own error", "allowed", "")

BisectOption = Annotated[
    bool,
    typer.Option(
        "--bisect",
        help="Of each backend that is wrong, name the first layer that departs: parts of the network are run in it, "
        "each up to another layer.",
    ),
]


@takes_cells
def verify(
    choice: CellChoice,
    data: InputsOption = None,
    bisect: BisectOption = False,
    exports: ExportsOption = Path("exports"),
    json_output: JsonOption = False,
) -> None:
    """Check that every backend computes what PyTorch computes in float64; exit with 1 if one does not.

    The error is relative to what the inputs change in the output, and its tolerance follows from the precision.
    """
    from vggbench.bisection import bisect_failures
    from vggbench.cli.progress import progress, say
    from vggbench.cli.results import judge_verification, print_json, print_reasons, print_rows
    from vggbench.plan import Pace
    from vggbench.runner import verify_cells

    show = showing(data, exports)
    cells, versions = choice.read_cells(choice.read_file())
    plan = Pace(rounds=1).plan(show(cells))
    announce_plan(plan, exports)
    with progress() as observer:
        rows, verifications = verify_cells(plan, exports, backend_versions=versions, observer=observer)
    found = bisect_failures(verifications, exports, say) if bisect else None
    if json_output:
        print_json(rows) if found is None else _print_json(rows, found)
    else:
        print_rows(_HEADINGS, rows, _texts)
        print_reasons(rows)
        _print_found(rows, found or {})
    judge_verification(rows)


def _print_json(rows: Sequence[Row], found: Mapping[str, Bisection]) -> None:
    """Print the rows with `bisection` in each, null where there was nothing to run."""
    from vggbench.measure.worker import without_nonfinite

    bisections = {cell: without_nonfinite(asdict(bisection)) for cell, bisection in found.items()}
    print(json.dumps([asdict(row) | {"bisection": bisections.get(row.cell_id or "")} for row in rows], indent=1))


def _print_found(rows: Sequence[Row], found: Mapping[str, Bisection]) -> None:
    from vggbench.report.table import row_title

    for row in rows:
        bisection = found.get(row.cell_id or "")
        if bisection is not None:
            print(f"{row_title(row)}: {bisection.remark}")
            _print_depths(bisection)


def _print_depths(bisection: Bisection) -> None:
    from rich.text import Text

    from vggbench.cli.tables import plain_table, print_table

    if not bisection.depths:
        return
    table = plain_table()
    for number, heading in enumerate(_DEPTHS):
        table.add_column(heading, justify="left" if number in {1, 2, len(_DEPTHS) - 1} else "right")
    for depth in bisection.depths:
        table.add_row(*map(Text, _depth_texts(depth, bisection.layer)))  # names from files of users, not rich's markup
    print_table(table)


def _depth_texts(depth: Depth, found: str) -> tuple[str, ...]:
    figures = (depth.error, depth.tolerance, depth.own_error, depth.own_tolerance)
    verdict = "the first that departs" if depth.layer == found else "" if depth.passed else "beyond"
    return (
        *(str(depth.depth), depth.layer, depth.operation),
        *("" if figure is None else f"{figure:.1e}" for figure in figures),
        verdict,
    )


def _texts(row: Row) -> tuple[str, ...]:
    from vggbench.report.table import precision_text

    return (
        row.variant or "",
        row.backend or "",
        precision_text(row),
        str(row.batch_size),
        f"{row.parity_error:.1e}" if row.parity_error is not None else "",
        f"{row.parity_tolerance:.1e}" if row.parity_tolerance is not None else "",
        f"{row.quantization_error:.1e}" if row.quantization_error is not None else "",
        f"{row.parity_cosine:.6f}" if row.parity_cosine is not None else "",
        f"{row.top1_agreement:.0%}" if row.top1_agreement is not None else "",
        row.precision_ran or "",
        row.status or "",
    )
