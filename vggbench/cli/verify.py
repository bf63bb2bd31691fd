"""`vggbench verify`: does every backend compute the same function? Nothing is timed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vggbench.cli.images import InputsOption, showing
from vggbench.cli.options import JsonOption
from vggbench.cli.planning import CellChoice, ExportsOption, takes_cells
from vggbench.cli.room import announce_plan

if TYPE_CHECKING:
    from vggbench.results.columns import Row

_HEADINGS = ("variant", "backend", "precision", "batch", "error", "tolerance", "cosine", "top-1", "ran", "verdict")


@takes_cells
def verify(
    choice: CellChoice,
    data: InputsOption = None,
    exports: ExportsOption = Path("exports"),
    json_output: JsonOption = False,
) -> None:
    """Check that every backend computes what PyTorch computes in float64; exit with 1 if one does not.

    The error is relative to what the inputs change in the output, and its tolerance follows from the precision.
    """
    from vggbench.cli.progress import progress
    from vggbench.cli.results import judge_verification, print_json, print_reasons, print_rows
    from vggbench.plan import Pace
    from vggbench.runner import verify_plan

    show = showing(data, exports)
    cells, versions = choice.read_cells(choice.read_file())
    plan = Pace(rounds=1).plan(show(cells))
    announce_plan(plan, exports)
    with progress() as observer:
        rows = verify_plan(plan, exports, backend_versions=versions, observer=observer)
    if json_output:
        print_json(rows)
    else:
        print_rows(_HEADINGS, rows, _texts)
        print_reasons(rows)
    judge_verification(rows)


def _texts(row: Row) -> tuple[str, ...]:
    return (
        row.variant or "",
        row.backend or "",
        row.precision or "",
        str(row.batch_size),
        f"{row.parity_error:.1e}" if row.parity_error is not None else "",
        f"{row.parity_tolerance:.1e}" if row.parity_tolerance is not None else "",
        f"{row.parity_cosine:.6f}" if row.parity_cosine is not None else "",
        f"{row.top1_agreement:.0%}" if row.top1_agreement is not None else "",
        row.precision_ran or "",
        row.status or "",
    )
