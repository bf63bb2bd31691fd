"""What an engine is asked to be, besides the ONNX file that it is built from. The standard library only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vggbench.errors import RequestError

DEFAULT_BATCH_SIZES = (1, 8, 32)
OPTIMIZATION_LEVELS = range(6)  # TensorRT's own; 3 is its default
MOST_ENGINES = 100  # of one kind: each is built and kept; beyond it a number is a typing error
FORMATS = ("onnx", "tensorrt-rtx", "tensorrt")
LAYOUT = "trt"  # of the quantisers of an ONNX file: the only one that TensorRT takes
_CAPABILITY = re.compile(r"(?:sm_?)?(\d+)\.?(\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineForm:
    """What is asked for.

    Attributes:
        library: `tensorrt` or `tensorrt-rtx`.
        batch_sizes: the least, the one it is made for, the most.
        workspace_mib: memory that a layer may use while it runs; the library's own limit without it.
        optimization_level: how long the builder searches; the library's own without it.
        compute_capabilities: of GPUs that TensorRT for RTX builds for, as SM89; all that it can without them.
        tf32: whether products of fp32 numbers may be rounded to TF32.
        number: which of several engines that are all built alike, from 1.
    """

    library: str = "tensorrt-rtx"
    batch_sizes: tuple[int, int, int] = DEFAULT_BATCH_SIZES
    workspace_mib: int | None = None
    optimization_level: int | None = None
    compute_capabilities: tuple[str, ...] = ()
    tf32: bool = False
    number: int = 1

    def __post_init__(self) -> None:
        least, best, most = self.batch_sizes
        if not 1 <= least <= best <= most:
            raise RequestError(f"batch sizes {least}:{best}:{most}: give MIN:OPT:MAX, from 1 upwards and in that order")
        if not 1 <= self.number <= MOST_ENGINES:
            raise RequestError(f"{self.number} engines of one kind: give 1 to {MOST_ENGINES}")
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise RequestError(f"a workspace of {self.workspace_mib} MiB: give 1 or more")
        if self.optimization_level is not None and self.optimization_level not in OPTIMIZATION_LEVELS:
            levels = f"{OPTIMIZATION_LEVELS[0]} to {OPTIMIZATION_LEVELS[-1]}"
            raise RequestError(f"optimisation level {self.optimization_level}: give one from {levels}")

    @property
    def options(self) -> dict[str, str]:
        """What a manifest says of it; batch sizes always, the others where they were given."""
        given = {
            "workspace_mib": self.workspace_mib,
            "optimization_level": self.optimization_level,
            "compute_capabilities": ",".join(self.compute_capabilities) or None,
            "tf32": "on" if self.tf32 else None,
            "engine": self.number if self.number > 1 else None,
        }
        batches = {"batch_sizes": ":".join(map(str, self.batch_sizes))}
        return batches | {name: str(value) for name, value in given.items() if value is not None}


def read_batch_sizes(text: str) -> tuple[int, int, int]:
    """Return MIN, OPT and MAX of `1:8:32`, or three times the one size of `8`; `RequestError` for anything else."""
    parts = text.split(":")
    if len(parts) not in {1, 3} or not all(re.fullmatch(r"[0-9]{1,6}", part) for part in parts):
        raise RequestError(f"batch size of an engine is {text!r}; give MIN:OPT:MAX, as 1:8:32, or one number")
    numbers = [int(part) for part in parts]
    least, best, most = numbers if len(numbers) == 3 else numbers * 3
    return least, best, most


def read_capabilities(items: Sequence[str]) -> tuple[str, ...]:
    """Return what the library calls capabilities given as `8.9`, `89` or `SM89`, sorted; `RequestError` for others."""
    found = [_CAPABILITY.fullmatch(item) for item in items]
    for item, capability in zip(items, found, strict=True):
        if capability is None:
            raise RequestError(f"compute capability is {item!r}; write 8.9 or SM89")
    return tuple(sorted({f"SM{one[1]}{one[2]}" for one in found if one}, key=lambda name: int(name[2:])))


def asked_engine(
    file_format: str,
    batch_size: str | None,
    workspace_mib: int | None,
    optimization_level: int | None,
    compute_capability: Sequence[str],
) -> EngineForm | None:
    """Return what an engine is to be, None for another format; `RequestError` for options that it does not have."""
    given = {
        "--batch-size": batch_size,
        "--workspace-mib": workspace_mib,
        "--optimization-level": optimization_level,
        "--compute-capability": compute_capability or None,
    }
    if file_format not in FORMATS:
        raise RequestError(f"no file of format {file_format!r} is written; give {', '.join(FORMATS)}")
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
        compute_capabilities=read_capabilities(compute_capability),
    )


def engine_layout(file_format: str, asked: str | None, precision: str) -> str | None:
    """Return the layout asked for; for an engine from an int8 file the one that TensorRT takes, unless one was."""
    return LAYOUT if asked is None and file_format != "onnx" and precision == "int8" else asked
