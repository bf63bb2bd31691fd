"""Where TensorRT 10, TensorRT 11 and TensorRT for RTX differ: asked for by `hasattr`, here and nowhere else.

The standard library only. The library is handed in as the module that it is; what all three have is called without
asking.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class BuildError(Exception):
    """Why there is no engine, in one line."""


class OptionError(BuildError):
    """An option that this library does not have."""


def strongly_typed(trt: Any) -> int:
    """Return the flags of a network whose types are its file's: needed by 10, the only ones that 11 and RTX know."""
    flags = trt.NetworkDefinitionCreationFlag
    if not hasattr(flags, "STRONGLY_TYPED"):
        raise BuildError(f"{trt.__name__} {trt.__version__} has no strongly typed networks; install 10 or newer")
    return 1 << int(flags.STRONGLY_TYPED)  # bits differ between versions


def set_capabilities(trt: Any, config: Any, names: Sequence[str]) -> None:
    """Build for GPUs of these compute capabilities, as SM89; `OptionError` where the library cannot."""
    if not hasattr(config, "set_compute_capability"):
        raise OptionError(
            f"{trt.__name__} {trt.__version__} builds for the GPU it runs on and takes no compute capability"
        )
    known = _capabilities(trt)
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        if name not in known:
            raise OptionError(
                f"{name} is no compute capability of {trt.__name__} {trt.__version__}: {', '.join(known)}"
            )
        config.set_compute_capability(known[name], index)


def _capabilities(trt: Any) -> dict[str, Any]:
    return {name: value for name, value in trt.ComputeCapability.__members__.items() if name.startswith("SM")}
