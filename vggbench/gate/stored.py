"""Stored runs as a comparison sees them: one figure a cell, what stands against it, and where it was measured.

No torch, no pandas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vggbench.errors import RunFolderError
from vggbench.results.run_info import FILE_NAME, held_runs

Tool = Literal["vggbench", "pytest-benchmark"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCell:
    """One cell of one run.

    Attributes:
        latency_ms: the run's figure of it; None where there is none.
        timing: whose clock timed it.
        invalid: why its figure is of no use, as in `CellEffects`; likewise `outputs` and `failed`.
    """

    cell_id: str
    title: str
    identity: Mapping[str, str | int | None] = field(default_factory=dict)
    latency_ms: float | None = None
    timing: str | None = None
    invalid: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def wrong(self) -> tuple[str, ...]:
        """Everything that stands against the figure."""
        return (*self.outputs, *self.failed, *self.invalid)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """One run.

    Attributes:
        environment: as `environment.comparable` takes it; with `facts`, everything that must be alike.
        facts: what else must be, by dotted name.
        cells: by id; those that the run's machine does not support are not among them.
    """

    name: str
    tool: Tool
    environment: Mapping[str, Any]
    facts: Mapping[str, object]
    cells: Mapping[str, StoredCell]


def read_runs(path: Path) -> list[StoredRun]:
    """Return the run that a folder or a file of pytest-benchmark holds, or the runs that a folder of such holds.

    `RunFolderError` for what is none of these, cannot be read, or has another schema version.
    """
    from vggbench.gate.pytest_benchmark import read_file
    from vggbench.gate.vggbench_run import read_run

    if path.is_file() and path.name != FILE_NAME:
        return [read_file(path)]
    folder = path.parent if path.is_file() else path
    if (folder / FILE_NAME).exists():
        return [read_run(folder)]
    held = [*map(read_run, held_runs(folder)), *map(read_file, _files(folder))]
    if not held:
        raise RunFolderError(f"{folder} holds no run: neither {FILE_NAME}, nor folders with one, nor JSON files")
    return held


def _files(folder: Path) -> list[Path]:
    return sorted(found for found in folder.glob("*.json") if found.is_file())
