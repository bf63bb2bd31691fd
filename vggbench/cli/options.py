"""The options that several commands share: what they are called and what their help says.

Imports typer and the tables of choices, nothing heavier: `--help` reads this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vggbench.artefacts.quantization import DEFAULT_METHOD, METHODS
from vggbench.errors import RequestError
from vggbench.models.configs import Head, LocalResponseNormReading
from vggbench.models.spec import Outputs

_MODEL = "Model"

VariantsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--variant",
        metavar="NAME",
        help="Network: a name of `vggbench list` or a letter of the paper (A, A-LRN, B, C, D, E). "
        "Repeatable, and NAME,NAME.",
        rich_help_panel=_MODEL,
    ),
]
ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="LAYERS",
        help='A network of your own, such as "64,64,M,128,256@1,M": channels of a 3x3 convolution, '
        "@1 for a 1x1, M for a max pool.",
        rich_help_panel=_MODEL,
    ),
]
OnnxOption = Annotated[
    list[str] | None,
    typer.Option(
        "--onnx",
        metavar="FILE",
        help="A network of your own as ONNX: one image input (N, 3, S, S), one output (N, classes), both fp32. It is "
        "held against itself. Repeatable.",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
BatchNormOption = Annotated[
    bool | None,
    typer.Option(
        "--batch-norm/--no-batch-norm",
        help="With or without batch norm; without the option, what the name says.",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
LocalResponseNormOption = Annotated[
    LocalResponseNormReading | None,
    typer.Option(
        "--lrn",
        help="How to read AlexNet's formula, which does not divide alpha by n: literal (PyTorch's alpha = 5e-4), "
        "divided (1e-4). For vgg11_lrn, whose default is literal, and --config.",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
NumClassesOption = Annotated[
    int | None,
    typer.Option(
        "--num-classes",
        metavar="N",
        help="Classes; without the option, the variant's own (1000, CIFAR 10).",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
InputSizeOption = Annotated[
    int | None,
    typer.Option(
        "--input-size",
        metavar="PIXELS",
        help="Side of the square input; without the option, the variant's own (224, CIFAR 32).",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
HeadOption = Annotated[
    Head | None,
    typer.Option(
        "--head",
        help="adaptive: a 7x7 average pool, as torchvision. flatten: a linear layer sized to the input, as the paper. "
        "Without the option, the variant's own.",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
ClassifierWidthOption = Annotated[
    int,
    typer.Option("--classifier-width", metavar="N", help="Width of the hidden linear layers.", rich_help_panel=_MODEL),
]
OutputsOption = Annotated[
    Outputs,
    typer.Option("--outputs", help="What the network returns; parity is always on logits.", rich_help_panel=_MODEL),
]
WeightsOption = Annotated[
    str,
    typer.Option(
        "--weights",
        metavar="random|init|imagenet|FILE",
        help="random: every bias and batch norm shows in the output. init: the published initialisation. "
        "imagenet: torchvision's trained weights, fetched where torch does not have them yet; a former file of theirs "
        "by its name, as vgg11-bbd30ac9. Or a .pth or .safetensors file.",
        rich_help_panel=_MODEL,
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", metavar="N", help="Decides generated weights.", rich_help_panel=_MODEL)
]
KeepFp32Option = Annotated[
    list[str] | None,
    typer.Option(
        "--keep-fp32",
        metavar="LAYER",
        help="A convolution or linear layer that stays fp32 in an fp16 or bf16 file, as features.0 (`vggbench show` "
        "has the names). Repeatable, and a,b,c.",
        show_default=False,
        rich_help_panel="File",
    ),
]
CalibrationOption = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        metavar="DIR|synthetic",
        help="Images that the ranges of an int8 or fp8 file's activations are taken from: a folder of photographs with "
        "a sub-folder a class, CIFAR-10, or synthetic ones, as rows then say. Needed where such a precision is named.",
        show_default=False,
        rich_help_panel="File",
    ),
]
CalibrationMethodOption = Annotated[
    str | None,
    typer.Option(
        "--calibration-method",
        metavar="NAME",
        help=f"How: {', '.join(METHODS)}. {DEFAULT_METHOD} without it.",
        show_default=False,
        rich_help_panel="File",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]


def split_commas(values: list[str] | None) -> list[str]:
    """Return the items of a repeatable option that also takes `a,b,c`; `RequestError` for an empty item."""
    items = [item.strip() for value in values or [] for item in value.split(",")]
    if "" in items:
        raise RequestError(f"an item is empty in {', '.join(repr(value) for value in values or [])}; write a,b,c")
    return items


def folder(text: str | Path) -> Path:
    """Return the folder that an option names; an empty name would be the working directory to `Path`."""
    if not str(text).strip():
        raise RequestError("a folder's name is empty; name one, or write . for the working directory")
    return Path(text)
