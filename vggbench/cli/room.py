"""Says how much will be written before any of it is, and refuses where there is no room. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vggbench.artefacts.space import MIB, check_room
from vggbench.cli.progress import say

if TYPE_CHECKING:
    from vggbench.plan import Plan

WORTH_SAYING_BYTES = 256 * MIB  # nobody looks for room for less


def announce_plan(plan: Plan, exports: Path) -> None:
    """Announce the need of all that a plan's cells open and are held against."""
    from vggbench.preparation import missing_bytes

    announce_need(missing_bytes(plan, exports), exports)


def announce_need(needed_bytes: int, exports: Path) -> None:
    """Print on stderr what a large request needs; `DiskSpaceError` if there is no room for it."""
    check_room(needed_bytes, exports)
    if needed_bytes >= WORTH_SAYING_BYTES:
        say(f"up to {needed_bytes / MIB:.0f} MiB will be written to {exports}")
