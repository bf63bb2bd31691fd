"""Two environments that are this one, with sessions of the fake backend whose script differs by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from tests.fakes import InlineWorker, fake_cell
from vggbench.gate.environments import PythonEnvironment
from vggbench.gate.gate_info import GateInfo
from vggbench.gate.paired import new_gate
from vggbench.gate.pairs import BlockPace
from vggbench.gate.records import Rule, Side
from vggbench.measure.client import WORKER_MODULE
from vggbench.plan import Cell

PACE = BlockPace(pairs=4, block_s=0.002, least_kept=3, warmup_least_s=0.01, warmup_most_s=0.05)
BOTH = (fake_cell(), fake_cell(precision="bf16"))


def environment(**changes: Any) -> PythonEnvironment:
    values: dict[str, Any] = {
        "python": "/env/bin/python",
        "prefix": "/env",
        "version": "3.12.1",
        "distributions": {"numpy": "2.1.0", "torch": "2.13.0"},
        "folders": (),
        "lacking": (),
    }
    return PythonEnvironment(**{**values, **changes})


BASE = environment()
HEAD = environment(prefix="/new", distributions={"numpy": "2.1.0", "torch": "2.14.0"})


class Scripted(InlineWorker):
    """A worker whose sessions of the fake backend are opened with further options."""

    def __init__(self, script: Mapping[str, str], **settings: Any) -> None:
        super().__init__(**settings)
        self._script = script

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        if command == "open":
            arguments["options"] = {**arguments["options"], **self._script}
        return super().call(command, **arguments)


class ScriptedSide:
    """Stands where a `Starter` does: each process has the script that is made for it, of its number and cell."""

    def __init__(self, script: Callable[[int], Mapping[str, str]] = lambda _number: {}) -> None:
        self._script = script
        self._numbers = count()

    def __call__(self, *, timeout_s: float = 0.0, module: str = WORKER_MODULE) -> Scripted:
        script = self._script(next(self._numbers)) if module == WORKER_MODULE else {}
        return Scripted(script, timeout_s=timeout_s, module=module)


def steady(latency_ms: float) -> ScriptedSide:
    return ScriptedSide(lambda _number: {"latency_ms": str(latency_ms)})


def noisy(latency_ms: float, seed: int, percent: float = 0.3) -> ScriptedSide:
    """Return a side whose processes have levels of their own."""
    chance = Random(seed)
    return ScriptedSide(lambda _number: {"latency_ms": f"{latency_ms * (1 + chance.gauss(0, percent / 100)):.9f}"})


def faulty(fault: str, rounds: int = 0) -> ScriptedSide:
    """Return a side that is as it should be for some rounds, and then is not."""
    return ScriptedSide(lambda number: {} if number < rounds else {"fault": fault})


def sides(base: ScriptedSide | None = None, head: ScriptedSide | None = None) -> Any:
    return {"base": base or ScriptedSide(), "head": head or ScriptedSide()}


def gate_of(*cells: Cell, lacks: Mapping[str, Mapping[Side, str]] | None = None, **changes: Any) -> GateInfo:
    values: dict[str, Any] = {"seed": 1, "pace": PACE, **changes}
    return new_gate(cells or BOTH, {"base": BASE, "head": HEAD}, lacks or {}, Rule(), **values)


def journal_lines(folder: Path) -> list[str]:
    path = folder / "pairs.jsonl"
    return path.read_text().splitlines() if path.exists() else []
