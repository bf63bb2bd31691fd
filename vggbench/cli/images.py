"""The options of commands that look at images, and what they are made into. Imports typer and nothing heavier."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggbench.cli.options import folder
from vggbench.errors import RequestError

if TYPE_CHECKING:
    from vggbench.classification import Steps
    from vggbench.data.dataset import DataSet
    from vggbench.plan import Cell

_IMAGES = "Images"
_COLOURS = 3
_SHOWN_FILES = 5  # unreadable ones that are named on stderr; an accuracy run's data.json has all

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        parser=folder,
        help="A folder of images with a sub-folder a class, below test where that is there; or CIFAR-10's files: "
        "python, binary or PNG.",
        show_default=False,
        rich_help_panel=_IMAGES,
    ),
]
InputsOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        parser=folder,
        help="Show images of a data set, as `accuracy` takes it, instead of synthetic ones.",
        show_default=False,
        rich_help_panel="Cells",
    ),
]
MeanOption = Annotated[
    str | None,
    typer.Option(
        "--mean",
        metavar="R,G,B",
        help="Subtracted from colours between 0 and 1; without it, what the weights say, else ImageNet's.",
        show_default=False,
        rich_help_panel=_IMAGES,
    ),
]
StdOption = Annotated[
    str | None,
    typer.Option("--std", metavar="R,G,B", help="Divides them; likewise.", show_default=False, rich_help_panel=_IMAGES),
]
ResizeOption = Annotated[
    int | None,
    typer.Option(
        "--resize",
        metavar="PIXELS",
        help="Resize the shorter side to it and cut the network's input out of the middle; without it, what the "
        "weights say, else to the input's size.",
        show_default=False,
        rich_help_panel=_IMAGES,
    ),
]


def open_images(data: Path) -> DataSet:
    """Open the test images of a folder and say on stderr what in it is none."""
    from vggbench.data.dataset import open_dataset

    found = open_dataset(data, "test")
    announce_images(found)
    return found


def announce_images(found: DataSet) -> None:
    """Say on stderr what a data set is, and which files of its folder hold no image."""
    from vggbench.cli.progress import say

    say(f"{found.name}: {len(found)} images of {len(found.classes)} classes, SHA-256 {found.sha256[:12]}...")
    for path, reason in found.skipped[:_SHOWN_FILES]:
        say(f"{path} {reason}")
    if found.skipped:
        say(f"{len(found.skipped)} files hold no image and are left out")


def showing(data: Path | None, exports: Path) -> Callable[[tuple[Cell, ...]], tuple[Cell, ...]]:
    """Open a folder of images, where one is named, and return what lets cells be shown some of them."""
    from vggbench.preparation import on_images_of

    if data is None:
        return lambda cells: cells
    images = open_images(data)  # now: what is wrong with them is said before backends are probed
    return lambda cells: on_images_of(cells, images, exports)


def read_steps(mean: str | None, std: str | None, resize: int | None) -> Steps:
    """Return what the options say of the preprocessing; `RequestError` for what no preprocessing has."""
    from vggbench.classification import Steps
    from vggbench.models.preprocessing import Preprocessing

    found = Steps(mean=_colours("--mean", mean), std=_colours("--std", std), resize=resize)
    Preprocessing(mean=found.mean or (0.0, 0.0, 0.0), std=found.std or (1.0, 1.0, 1.0), resize=resize)
    return found


def _colours(option: str, text: str | None) -> tuple[float, ...] | None:
    """Return one number a colour: three, or one for all of them."""
    if text is None:
        return None
    try:
        values = tuple(float(item) for item in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in {1, _COLOURS} or not all(map(math.isfinite, values)):
        raise RequestError(f"{option} is {text!r}; give three numbers, as 0.485,0.456,0.406, or one for all colours")
    return values * (_COLOURS // len(values))
