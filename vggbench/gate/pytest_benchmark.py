"""A file of pytest-benchmark (`--benchmark-json`, `--benchmark-save`) as a stored run. Standard library only."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vggbench.errors import RunFolderError
from vggbench.gate.stored import StoredCell, StoredRun


def read_file(path: Path) -> StoredRun:
    """Return the run in the file, a cell for each benchmark; `RunFolderError` for anything else."""
    document = _document(path)
    benchmarks = document.get("benchmarks")
    if not isinstance(benchmarks, list) or "machine_info" not in document:
        raise RunFolderError(f"{path} is not of pytest-benchmark: it has no list of benchmarks with machine_info")
    cells: dict[str, StoredCell] = {}
    for number, found in enumerate(benchmarks, start=1):
        cell = _cell(path, number, found)
        if cell.cell_id in cells:
            raise RunFolderError(f"{path}: {cell.cell_id} stands in it twice")
        cells[cell.cell_id] = cell
    return StoredRun(name=str(path), tool="pytest-benchmark", environment=_environment(document), facts={}, cells=cells)


def _document(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise RunFolderError(f"{path} is neither a run's folder nor a file of pytest-benchmark")
    return found


def _cell(path: Path, number: int, found: object) -> StoredCell:
    benchmark = found if isinstance(found, dict) else {}
    name, stats = benchmark.get("fullname"), benchmark.get("stats")
    if not isinstance(name, str) or not isinstance(stats, dict):
        raise RunFolderError(f"{path}: benchmark {number} has no fullname or no stats")
    median = stats.get("median")
    if isinstance(median, bool) or not isinstance(median, int | float) or not 0 < median < math.inf:
        raise RunFolderError(f"{path}: the median of {name} is {median!r}, not a number of seconds")
    return StoredCell(cell_id=name, title=name, latency_ms=1e3 * median, timing="host")


def _environment(document: Mapping[str, Any]) -> dict[str, Any]:
    machine, commit = _table(document, "machine_info"), _table(document, "commit_info")
    cpu = _table(machine, "cpu")
    dirty = "-dirty" if commit.get("dirty") else ""
    return {
        "hardware": {
            "node": machine.get("node"),
            "architecture": machine.get("machine"),
            "cpu_model": cpu.get("brand_raw"),
            "logical_cores": cpu.get("count"),
        },
        "system": {
            "os": machine.get("system"),
            "kernel": machine.get("release"),
            "python": machine.get("python_version"),
            "python_implementation": machine.get("python_implementation"),
        },
        "commit": None if commit.get("id") is None else f"{commit['id']}{dirty}",
    }


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}
