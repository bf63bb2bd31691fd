"""The options of commands that look at images, and what they are made into. Imports typer and nothing heavier."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggbench.errors import RequestError

if TYPE_CHECKING:
    from vggbench.classification import Steps

_IMAGES = "Images"
_COLOURS = 3

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="A folder of images with a sub-folder a class, below test where that is there; or CIFAR-10's files: "
        "python, binary or PNG.",
        show_default=False,
        rich_help_panel=_IMAGES,
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
