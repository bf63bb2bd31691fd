"""Whether there is room for what is going to be written, asked before any of it is. The standard library only."""

from __future__ import annotations

import shutil
from pathlib import Path

from vggbench.errors import DiskSpaceError

MIB = 2**20


def check_room(needed_bytes: int, exports: Path, option: str = "--exports") -> None:
    """Raise `DiskSpaceError` where the disk of a folder, which need not exist yet, has not as much left.

    `option` is how another folder is named.
    """
    place = exports.absolute()
    free = shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.exists())).free
    if needed_bytes > free:
        raise DiskSpaceError(
            f"{needed_bytes / MIB:.0f} MiB are needed at {place}, {free / MIB:.0f} MiB are free; "
            f"make room there or name another folder with {option}"
        )
