"""In which order a plan's rounds are made. No torch, no onnx, no backend's library."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from vggbench.plan.cells import Cell, format_options


def schedule(cells: Sequence[Cell], rounds: int, seed: int) -> Iterator[tuple[int, Cell]]:
    """Yield (round, cell): each round has every cell of a stage once, in a random order; one stage after the other.

    On a GPU the batches of an engine follow each other, in a random order too: they share a process.
    """
    for stage in sorted({cell.stage for cell in cells}):
        yield from _stage([cell for cell in cells if cell.stage == stage], rounds, seed)


def _stage(cells: Sequence[Cell], rounds: int, seed: int) -> Iterator[tuple[int, Cell]]:
    for number in range(rounds):
        chance = random.Random(f"{seed}/{number}")  # noqa: S311 - an order, not a secret
        engines = _engines(cells)
        chance.shuffle(engines)
        for engine in engines:
            chance.shuffle(engine)
            yield from ((number, cell) for cell in engine)


def _engines(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Return cells that share a process, each alone on a CPU."""
    together: dict[object, list[Cell]] = {}
    for cell in cells:
        options = *format_options(cell.options), *format_options(cell.export_options)
        engine = cell.spec.digest(), cell.backend, cell.precision, options, cell.replica
        together.setdefault(cell.id if cell.device == "cpu" else engine, []).append(cell)
    return list(together.values())
