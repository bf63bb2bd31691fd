"""What TensorRTs keep between processes: timings of kernels (10 and 11), kernels themselves (TensorRT for RTX).

Either is of one library's version on one GPU, and lies below the exports folder, where nothing is an artefact: thrown
away, it is made again. The standard library only.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

FOLDER = ".caches"
TIMINGS = "timings"  # of every kernel that was tried, for all networks together
_UNFIT = re.compile(r"[^A-Za-z0-9.]+")  # for a file's name


def cache_path(exports: Path, library: str, version: str, gpu: str, name: str) -> Path:
    """Return where a cache of a library's version on a GPU is kept."""
    return exports.absolute() / FOLDER / f"{library}-{version}" / _UNFIT.sub("-", gpu).strip("-") / name


def read_cache(path: Path) -> bytes:
    """Return what was kept; nothing, where there is none or it cannot be read: a cache is only ever time saved."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def keep_cache(path: Path, blob: bytes) -> None:
    """Keep it whole or not at all; where that cannot be, as in a folder that may only be read, the old one stays."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(blob)
        Path(unfinished).replace(path)
    except OSError:
        return
