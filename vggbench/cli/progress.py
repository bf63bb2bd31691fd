"""How a run gets on, for people: a live bar on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

    from vggbench.gate.pairs import PairedRound, SideRecord
    from vggbench.measure.records import Failure, RoundRecord, SessionRecord
    from vggbench.plan import Cell

_GAUGING = "measuring what this machine can do at best"
_CONFIRMING = "cells that may be slower are measured again, in fresh rounds: {}"


@contextmanager
def progress() -> Iterator[PlainLines | LiveBar]:
    """Yield the observer that fits stderr."""
    if not sys.stderr.isatty():
        yield PlainLines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    title = TextColumn("{task.description}", markup=False)  # options may have brackets
    columns = (title, BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    # Drawn when something has changed, not ten times a second: a thread that draws takes time from what is measured.
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as live:
        yield LiveBar(live)


class _Watch:
    """Says how long the rest will take, from the time that the rounds so far took."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def left(self, done: int, total: int) -> str:
        """Return a few words; empty before the first round is over and after the last."""
        if done == 0:
            self._start = time.monotonic()
        if done in {0, total}:
            return ""
        seconds = (time.monotonic() - self._start) / done * (total - done)
        return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"


class PlainLines:
    """A line for each thing that was finished."""

    def __init__(self) -> None:
        self._watch = _Watch()
        self._over, self._total = 0, 0

    def preparing(self, cell: Cell) -> None:
        """Say which cell's files are made."""
        say(f"preparing {cell.title}")

    def gauging(self) -> None:
        """Say what takes these seconds."""
        say(_GAUGING)

    def saturating(self, cell: Cell) -> None:
        """Say what takes these seconds."""
        say(f"trying several requests in flight on {cell.title}")

    def confirming(self, cells: int) -> None:
        """Say why there are more rounds."""
        say(_CONFIRMING.format(cells))

    def measuring(self, cell: Cell, done: int, total: int) -> None:  # noqa: ARG002 - the line comes when it is done
        """Keep the place for the line to come."""
        self._watch.left(done, total)
        self._over, self._total = done + 1, total

    def measured(self, cell: Cell, record: RoundRecord | PairedRound) -> None:
        """Say what the round found."""
        left = self._watch.left(self._over, self._total)
        say(f"[{self._over}/{self._total}] {cell.title}: {outcome(record)}" + (f", {left}" if left else ""))


class LiveBar:
    """One bar; what went wrong stays above it."""

    def __init__(self, live: Progress) -> None:
        self._live = live
        self._watch = _Watch()
        self._task = live.add_task("", total=None, left="")

    def preparing(self, cell: Cell) -> None:
        """Show which cell's files are made."""
        self._live.update(self._task, description=f"preparing {cell.title}", refresh=True)

    def gauging(self) -> None:
        """Show what takes these seconds."""
        self._live.update(self._task, description=_GAUGING)

    def saturating(self, cell: Cell) -> None:
        """Show what takes these seconds."""
        self._live.update(self._task, description=f"requests in flight: {cell.title}")

    def confirming(self, cells: int) -> None:
        """Keep a line of why there are more rounds."""
        self._live.console.print(_CONFIRMING.format(cells), markup=False, soft_wrap=True)

    def measuring(self, cell: Cell, done: int, total: int) -> None:
        """Show the cell in hand and the time left."""
        left = self._watch.left(done, total)
        self._live.update(self._task, description=cell.title, completed=done, total=total, left=left, refresh=True)

    def measured(self, cell: Cell, record: RoundRecord | PairedRound) -> None:
        """Keep a line of a round that went wrong."""
        if record.failure is not None:
            self._live.console.print(f"{cell.title}: {outcome(record)}", markup=False, soft_wrap=True)


def outcome(record: RoundRecord | PairedRound) -> str:
    """Return what a round found, in a few words; of both sides of a paired one."""
    from vggbench.gate.pairs import PairedRound

    if isinstance(record, PairedRound):
        return ", ".join(f"{name} {_half(side)}" for name, side in record.sides.items())
    return _outcome(record.sessions, record.failure)


def _half(side: SideRecord) -> str:
    if side.session is None and side.failure is None:
        return "not started"
    return _outcome([side.session] if side.session else [], side.failure)


def _outcome(sessions: Sequence[SessionRecord], failure: Failure | None) -> str:
    if failure is not None:
        return f"{failure.status} at {failure.stage}: {failure.reason}"
    reasons = [reason for session in sessions for reason in session.parity.reasons]
    if reasons:
        return f"parity failed: {reasons[0]}"
    blocks = [median(block) for session in sessions for block in session.samples("compute")]
    return f"{median(blocks) / 1e6:.3g} ms" if blocks else "verified"


def say(text: str) -> None:
    """Print a line of progress on stderr."""
    with suppress(OSError):  # what nobody can read any more ends no run
        print(text, file=sys.stderr, flush=True)
