"""`vggbench accuracy`: how often each backend and precision is right on the same images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggbench.cli.images import DataOption, MeanOption, ResizeOption, StdOption, open_images, read_steps
from vggbench.cli.options import JsonOption
from vggbench.cli.planning import CellChoice, ExportsOption, takes_cells
from vggbench.cli.room import announce_plan
from vggbench.cli.run import OutputOption
from vggbench.errors import RequestError

if TYPE_CHECKING:
    from vggbench.results.accuracy import AccuracyRow

_BATCH_SIZE = 32  # where none is asked for: no time is measured, and more would only take memory
_HEADINGS = (
    *("variant", "backend", "precision", "batch", "images", "top-1 %", "top-5 %", "changed", "against fp32"),
    *("error", "status"),
)

LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        help="Only so many images, evenly spread over the set.",
        show_default=False,
        rich_help_panel="Images",
    ),
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on in --output where it stopped, with the same --data; what failed is tried again.",
        rich_help_panel="Places",
    ),
]


@takes_cells
def accuracy(
    choice: CellChoice,
    data: DataOption = None,
    limit: LimitOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    resize: ResizeOption = None,
    output: OutputOption = None,
    exports: ExportsOption = Path("exports"),
    resume: ResumeOption = False,
    json_output: JsonOption = False,
) -> None:
    """Say how often each backend and precision is right on the same images, and whether that differs from fp32.

    Every cell is verified on eight of the images (on synthetic ones where they are fewer, or prepared otherwise than
    the weights say), and predicts in that session. Nothing is timed.
    """
    from vggbench.classification import resume_accuracy, start_accuracy
    from vggbench.cli.progress import progress
    from vggbench.plan import Pace
    from vggbench.runner import Places, default_folder

    if data is None:
        raise RequestError("--data is missing: the folder of the images")
    steps = read_steps(mean, std, resize)
    if resume:
        folder = _folder_to_resume(choice, output, [limit, mean, std, resize])
        images = open_images(data)
        with progress() as observer:
            rows = resume_accuracy(Places(folder=folder, exports=exports), images, observer=observer)
    else:
        images = open_images(data)
        cells, versions = _with_batches(choice).read_cells(choice.read_file())
        plan = Pace(rounds=1).plan(cells)
        announce_plan(plan, exports)
        folder = output or default_folder()
        with progress() as observer:
            places = Places(folder=folder, exports=exports)
            rows = start_accuracy(
                plan, images, places, backend_versions=versions, limit=limit, steps=steps, observer=observer
            )
    _show(rows, folder, json_output=json_output)


def _folder_to_resume(choice: CellChoice, output: Path | None, others: Sequence[object]) -> Path:
    if output is None:
        raise RequestError("--resume needs --output: the folder to go on in")
    if choice.is_given or any(value is not None for value in others):
        raise RequestError("--resume goes on with what the folder is about; give --data, and no other choice beside it")
    return output


def _with_batches(choice: CellChoice) -> CellChoice:
    """Return the choice with a batch size of this command's; a plan and a network's own file have theirs."""
    if choice.plan is not None or {"batch_size", "onnx"} & choice.chosen.keys():
        return choice
    return replace(choice, chosen={**choice.chosen, "batch_size": [_BATCH_SIZE]})


def _show(rows: Sequence[AccuracyRow], folder: Path, *, json_output: bool) -> None:
    from vggbench.classification import TABLE_NAME
    from vggbench.cli.results import judge_verification, print_reasons, print_table_of

    verified = [one.row for one in rows]
    if json_output:
        print(json.dumps([one.values for one in rows], indent=1))
    else:
        print_table_of(_HEADINGS, [_texts(one) for one in rows])
        print_reasons(verified)
        print(f"written to {folder}: {TABLE_NAME}")
    judge_verification(verified)


def _texts(one: AccuracyRow) -> tuple[str, ...]:
    row, found = one.row, one.accuracy
    return (
        row.variant or "",
        row.backend or "",
        row.precision or "",
        str(row.batch_size),
        str(found.images or ""),
        _share(found.top1_percent, found.top1_low_percent, found.top1_high_percent),
        _share(found.top5_percent, found.top5_low_percent, found.top5_high_percent),
        "" if found.changed is None else str(found.changed),
        found.verdict or "",
        f"{row.parity_error:.1e}" if row.parity_error is not None else "",
        row.status or "",
    )


def _share(percent: float | None, low: float | None, high: float | None) -> str:
    if percent is None or low is None or high is None:
        return ""
    return f"{percent:.2f} ({low:.2f} to {high:.2f})"
