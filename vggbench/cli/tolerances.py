"""`vggbench tolerances`: how large an error may be in each precision, and how large it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggbench.cli.options import JsonOption
from vggbench.cli.planning import CellChoice, ExportsOption, takes_cells
from vggbench.cli.room import announce_plan
from vggbench.errors import CellError, CheckFailed, NothingToJudge
from vggbench.models.configs import VARIANTS

if TYPE_CHECKING:
    from vggbench.plan import Cell
    from vggbench.tolerances import ToleranceRow

_HEADINGS = (
    *("variant", "pixels", "precision", "backend", "bound", "PyTorch", "how", "error", "cost", "margin", "x PyTorch"),
    *("status", "note"),
)
_LEFT = {0, 2, 3, 6, 11, 12}  # columns of words
# Without a network every variant, small: the derivation is of depth and reduction lengths, which size does not change.
_SMALL: dict[str, Any] = {"variant": list(VARIANTS), "input_size": 32, "classifier_width": 256}


@takes_cells
def tolerances(choice: CellChoice, exports: ExportsOption = Path("exports"), json_output: JsonOption = False) -> None:
    """Print what parity allows in each precision, PyTorch's own error in it, and each backend's.

    Without a network: every variant at 32 pixels. `--variant vgg16_bn` takes it at its full size. Where PyTorch does
    not compute in a precision here, it is emulated by rounding weights and activations. int8 and fp8, where they are
    named: the error against the file's own graph, and what quantising it cost.
    """
    from vggbench.cli.progress import progress
    from vggbench.parity.tolerance import ARITHMETIC
    from vggbench.plan import Pace
    from vggbench.tolerances import tolerance_table

    if choice.plan is None and choice.chosen.keys().isdisjoint({"variant", "config", "onnx"} | _own_network(choice)):
        choice = replace(choice, chosen={**_SMALL, **choice.chosen})
    named = choice.plan is not None or "precision" in choice.chosen
    if not named:
        choice = replace(choice, chosen={**choice.chosen, "precision": list(ARITHMETIC)})
    cells, _versions = choice.read_cells(choice.read_file())
    plan = Pace(rounds=1).plan(cells if named else _supported(cells))
    announce_plan(plan, exports)
    with progress() as observer:
        rows = tolerance_table(plan, [] if named else list(ARITHMETIC), exports, observer)
    if json_output:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        _print(rows)
    _judge([row.status for row in rows])


def _own_network(choice: CellChoice) -> set[str]:
    """Return the option of weights, if they say which network they are for."""
    from vggbench.models.description import described_network

    return {"weights"} if described_network(choice.chosen.get("weights", "")) else set()


def _supported(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Leave out what a backend does not have of what was not named; all stay where nothing else would."""
    return tuple(cell for cell in cells if not cell.unsupported) or tuple(cells)


def _judge(statuses: Sequence[str]) -> None:
    if wrong := statuses.count("parity_failed"):
        raise CheckFailed(f"{wrong} of {len(statuses)} rows failed parity; their notes say why")
    if statuses.count("unsupported") == len(statuses):
        raise NothingToJudge("every cell is unsupported here; their notes say why")
    if failed := statuses.count("failed") + statuses.count("timeout"):
        raise CellError(f"{failed} of {len(statuses)} rows failed; their notes say why")
    if other := statuses.count("precision_mismatch") + statuses.count("fallback"):
        raise CheckFailed(f"{other} of {len(statuses)} rows ran as something else than was asked; their notes say why")


def _print(rows: Sequence[ToleranceRow]) -> None:
    from rich.text import Text

    from vggbench.cli.tables import plain_table, print_table

    lines = [_texts(row) for row in rows]
    shown = [number for number in range(len(_HEADINGS)) if any(line[number] for line in lines)]
    table = plain_table()
    for number in shown:
        table.add_column(_HEADINGS[number], justify="left" if number in _LEFT else "right")
    for line in lines:
        table.add_row(*(Text(line[number]) for number in shown))  # names of users' files, not rich's markup
    print_table(table)


def _texts(row: ToleranceRow) -> tuple[str, ...]:
    return (
        row.variant,
        str(row.input_size),
        row.precision,
        f"{row.backend} {row.options}".strip(),
        _figure(row.bound, ".1e"),
        _figure(row.pytorch_error, ".1e"),
        row.pytorch_how,
        _figure(row.error, ".1e"),
        _figure(row.quantization_error, ".1e"),
        _figure(row.margin, ".1f"),
        _figure(row.times_pytorch, ".2f"),
        row.status,
        row.note,
    )


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
