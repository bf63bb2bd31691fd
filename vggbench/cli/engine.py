"""The options of `vggbench export` that only engines have. Imports nothing heavy."""

from __future__ import annotations

from typing import Annotated

import typer

from vggbench.artefacts.engine_form import (
    DEFAULT_BATCH_SIZES,
    OPTIMIZATION_LEVELS,
)

_ENGINE = "Engine"

EngineBatchOption = Annotated[
    str | None,
    typer.Option(
        "--batch-size",
        metavar="MIN:OPT:MAX",
        help="Batches that an engine takes, and the one it is made for; one number for all three. "
        f"{':'.join(map(str, DEFAULT_BATCH_SIZES))} without it.",
        show_default=False,
        rich_help_panel=_ENGINE,
    ),
]
WorkspaceOption = Annotated[
    int | None,
    typer.Option(
        "--workspace-mib",
        metavar="MIB",
        help="Memory that a layer may use while it runs; TensorRT's own limit without it.",
        show_default=False,
        rich_help_panel=_ENGINE,
    ),
]
LevelOption = Annotated[
    int | None,
    typer.Option(
        "--optimization-level",
        metavar="N",
        help=f"How long the builder searches, {OPTIMIZATION_LEVELS[0]} to {OPTIMIZATION_LEVELS[-1]}; TensorRT's own "
        "without it.",
        show_default=False,
        rich_help_panel=_ENGINE,
    ),
]
CapabilitiesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--compute-capability",
        metavar="N.N",
        help="Of the GPUs that TensorRT for RTX builds for, as 8.9; without it, every one that it can. Repeatable, and "
        "a,b,c.",
        show_default=False,
        rich_help_panel=_ENGINE,
    ),
]
