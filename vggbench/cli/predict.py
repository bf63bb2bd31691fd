"""`vggbench predict`: what a network sees in photographs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vggbench.cli.images import MeanOption, ResizeOption, StdOption, read_steps
from vggbench.cli.options import JsonOption
from vggbench.cli.planning import CellChoice, ExportsOption, takes_cells
from vggbench.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

    from vggbench.plan import Cell

_DEFAULTS: Mapping[str, Any] = {"backend": ["torch"], "precision": ["fp32"], "batch_size": [1]}

ImagesArgument = Annotated[
    list[Path], typer.Argument(metavar="IMAGE", help="JPEG, PNG, WebP, GIF, BMP, TIFF or PPM.", show_default=False)
]


@takes_cells
def predict(
    choice: CellChoice,
    images: ImagesArgument,
    mean: MeanOption = None,
    std: StdOption = None,
    resize: ResizeOption = None,
    exports: ExportsOption = Path("exports"),
    json_output: JsonOption = False,
) -> None:
    """Name the likeliest classes of images, with their probabilities.

    Through PyTorch in fp32, or the one --backend and --precision that are named; verified as by `verify` before.
    """
    from vggbench.classification import class_names, predict_images

    steps = read_steps(mean, std, resize)
    found, unreadable = _read(images)
    cell, versions = _one_cell(choice)
    _hint(cell)
    names = class_names(cell.spec)
    predictions = predict_images(cell, list(found.values()), exports, steps, backend_versions=versions)
    named = {
        path: [(names[number], probability) for number, probability in one]
        for path, one in zip(found, predictions, strict=True)
    }
    _print(images, named, unreadable, json_output=json_output)
    if unreadable:
        raise DataError(f"{len(unreadable)} of {len(images)} images cannot be read; they are named above")


def _read(paths: Sequence[Path]) -> tuple[dict[Path, Image], dict[Path, str]]:
    """Return the images, and why others are none; `DataError` where there is not one."""
    from vggbench.data.image_file import read_image

    found: dict[Path, Image] = {}
    unreadable: dict[Path, str] = {}
    for path in paths:
        try:
            found[path] = read_image(path)
        except DataError as error:
            unreadable[path] = str(error)
    if not found:
        more = f", and {len(paths) - 1} more like it" if len(paths) > 1 else ""
        raise DataError(next(iter(unreadable.values())) + more)
    return found, unreadable


def _one_cell(choice: CellChoice) -> tuple[Cell, dict[str, str]]:
    from vggbench.classification import only_cell

    file = choice.read_file()
    if file is None:
        choice = replace(choice, chosen={**_DEFAULTS, **choice.chosen})
    cells, versions = choice.read_cells(file)
    return only_cell(cells), versions


def _hint(cell: Cell) -> None:
    """Say on stderr why classes are numbers, where they are."""
    from vggbench.cli.progress import say
    from vggbench.models.description import describe

    if not describe(cell.spec).classes:
        say("the weights do not name their classes, so these are numbers; a checkpoint of `vggbench train` has names")


def _print(
    paths: Sequence[Path],
    named: Mapping[Path, Sequence[tuple[str, float]]],
    unreadable: Mapping[Path, str],
    *,
    json_output: bool,
) -> None:
    if json_output:
        print(json.dumps([_record(path, named.get(path), unreadable.get(path)) for path in paths], indent=1))
        return
    for path in paths:
        likely = [f"{name} {probability:.1%}" for name, probability in named.get(path, ())]
        print(f"{path}: {', '.join(likely)}" if likely else unreadable[path])


def _record(path: Path, likely: Sequence[tuple[str, float]] | None, reason: str | None) -> dict[str, Any]:
    classes = [{"class": name, "probability": probability} for name, probability in likely or ()]
    return {"image": str(path), "classes": classes, "error": reason}
