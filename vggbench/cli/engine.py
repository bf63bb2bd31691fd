"""The options of `vggbench export` that only engines have. Imports nothing heavy."""

from __future__ import annotations

from typing import Annotated

import typer

from vggbench.artefacts.engine_form import (
    DEFAULT_BATCH_SIZES,
    LAYOUT,
    OPTIMIZATION_LEVELS,
    EngineForm,
    read_batch_sizes,
    read_capabilities,
)
from vggbench.cli.options import split_commas
from vggbench.errors import RequestError

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


def engine_form(
    file_format: str,
    batch_size: str | None,
    workspace_mib: int | None,
    optimization_level: int | None,
    compute_capability: list[str] | None,
) -> EngineForm | None:
    """Return what an engine is to be, None for another format; `RequestError` for options that it does not have."""
    given = {
        "--batch-size": batch_size,
        "--workspace-mib": workspace_mib,
        "--optimization-level": optimization_level,
        "--compute-capability": compute_capability,
    }
    if file_format == "onnx":
        if named := [name for name, value in given.items() if value is not None]:
            raise RequestError(f"{named[0]} is for engines; give --format tensorrt-rtx or tensorrt with it")
        return None
    if compute_capability and file_format != "tensorrt-rtx":
        raise RequestError("--compute-capability is for tensorrt-rtx; tensorrt builds for the GPU that it runs on")
    return EngineForm(
        library=file_format,
        batch_sizes=DEFAULT_BATCH_SIZES if batch_size is None else read_batch_sizes(batch_size),
        workspace_mib=workspace_mib,
        optimization_level=optimization_level,
        compute_capabilities=read_capabilities(split_commas(compute_capability)),
    )


def quantiser_layout(file_format: str, asked: str | None, precision: str) -> str | None:
    """Return the layout asked for; for an engine from an int8 file the one that TensorRT takes, unless one was."""
    return LAYOUT if asked is None and file_format != "onnx" and precision == "int8" else asked
