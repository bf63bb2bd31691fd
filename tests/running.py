"""Runs whose rounds are made up, and what they leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.fakes import fake_cell
from tests.results.made import timed
from vggbench.measure.records import RoundRecord
from vggbench.measure.request import RoundRequest
from vggbench.plan import Cell, Plan
from vggbench.results.columns import Row
from vggbench.results.journal import JOURNAL_NAME, read_journal
from vggbench.runner import Places, start_run

TWO = (fake_cell(), fake_cell(precision="bf16"))


class Watcher:
    """An observer that keeps what it hears; also makes the records that it is told to."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def preparing(self, cell: Cell) -> None:
        self.heard.append(("preparing", cell.id))

    def gauging(self) -> None:
        self.heard.append(("gauging",))

    def saturating(self, cell: Cell) -> None:
        self.heard.append(("saturating", cell.id))

    def measuring(self, cell: Cell, done: int, total: int) -> None:
        self.heard.append(("measuring", cell.id, done, total))

    def measured(self, cell: Cell, record: RoundRecord) -> None:
        self.heard.append(("measured", cell.id, record.round))


def start(plan: Plan, places: Places, **changes: Any) -> list[Row]:
    return start_run(plan, places, backend_versions={"fake": "1"}, **changes)


def made(request: RoundRequest, cells: tuple[Cell, ...] = TWO) -> RoundRecord:
    """Stand in for a round: a record without a measurement."""
    (cell,) = [cell for cell in cells if cell.id == request.cell_id]
    return timed(cell, request.round, 1.0)


def stopped_after(count: int, log: list[tuple[str, int]], make: Callable[[RoundRequest], RoundRecord] = made):
    """Return an executor that notes its rounds and is interrupted in the one after `count`."""

    def execute(request: RoundRequest) -> RoundRecord:
        if len(log) == count:
            raise KeyboardInterrupt
        log.append((request.cell_id, request.round))
        return make(request)

    return execute


def measured(places: Places) -> list[tuple[str, int]]:
    return [(found.cell_id, found.round) for found in read_journal(places.folder / JOURNAL_NAME)]
