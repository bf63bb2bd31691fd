"""A paired gate from its start to its report: both sides prepared, rounds of both in turn, and what was found.

Rounds are made by an `Executor`, as a run's are. No torch, no pandas, no backend's library: those are in the workers.
"""

from __future__ import annotations

import random
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from vggbench import environment
from vggbench.artefacts.store import DEFAULT_EXPORTS
from vggbench.errors import Interrupted, NothingToJudge, RunFolderError
from vggbench.gate.decide import flagged
from vggbench.gate.environments import EXPORTING, SIDES, PythonEnvironment, Starters, differences, require
from vggbench.gate.gate_info import GATE_NAME, GATE_SCHEMA, GateInfo, read_gate_info, write_gate_info
from vggbench.gate.gate_report import effects_of, report_of
from vggbench.gate.journal import PAIRS_NAME, read_pairs
from vggbench.gate.pairing import PairRequest, paired_round
from vggbench.gate.pairs import BlockPace, PairedRound, draw_round
from vggbench.gate.records import GateReport, Rule, Side
from vggbench.gate.sides import Found, prepare_sides
from vggbench.measure.request import RoundRequest
from vggbench.plan import Cell
from vggbench.preparation import request_for
from vggbench.results.journal import Journal
from vggbench.results.run_folder import discard, held, make_folder
from vggbench.runner import Places, check_same_artefacts, check_same_environment
from vggbench.version import VERSION

FIRST, CONFIRMATION = 1, 2  # the stages


class Executor(Protocol):
    """Makes one paired round; never raises for what goes wrong in it."""

    def __call__(self, asked: PairRequest, starters: Starters) -> PairedRound:
        """Return the round's record."""
        ...


class Observer(Protocol):
    """Is told how a gate gets on."""

    def preparing(self, cell: Cell) -> None:
        """Hear that the cell's files are made or found next, on one side."""
        ...

    def confirming(self, cells: int) -> None:
        """Hear that so many cells were flagged and are measured anew."""
        ...

    def measuring(self, cell: Cell, done: int, total: int) -> None:
        """Hear that a round of the cell begins, `done` of `total` of its stage being over."""
        ...

    def measured(self, cell: Cell, record: PairedRound) -> None:
        """Hear what the round found."""
        ...


def new_gate(
    cells: tuple[Cell, ...],
    sides: Mapping[Side, PythonEnvironment],
    lacks: Mapping[str, Mapping[Side, str]],
    rule: Rule,
    *,
    seed: int | None = None,
    pace: BlockPace | None = None,
) -> GateInfo:
    """Return the head of a gate that starts now; without a seed, one is drawn and kept."""
    return GateInfo(
        schema_version=GATE_SCHEMA,
        vggbench_version=VERSION,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        cells=cells,
        lacks=lacks,
        sides=sides,
        environment=environment.collect().to_json(),
        rule=rule,
        pace=pace or BlockPace(),
        seed=random.SystemRandom().getrandbits(32) if seed is None else seed,
    )


def start_gate(
    info: GateInfo, places: Places, starters: Starters, observer: Observer, execute: Executor = paired_round
) -> GateReport:
    """Measure a gate in a new folder and return its report."""
    _require_exporters(info)
    made = make_folder(places.folder)
    with held(places.folder):
        if any((places.folder / name).exists() for name in (GATE_NAME, PAIRS_NAME)):
            raise RunFolderError(f"{places.folder} holds a gate already; continue it with --resume or name another")
        write_gate_info(places.folder, info)
        try:
            return _carry_on(info, _Work(places, starters, observer, execute))
        except NothingToJudge:
            discard(places.folder, GATE_NAME, made=made)
            raise


def resume_gate(
    places: Places,
    sides: Mapping[Side, PythonEnvironment],
    starters: Starters,
    observer: Observer,
    execute: Executor = paired_round,
) -> GateReport:
    """Continue the gate in a folder where its journal ends; `sides` is what the environments are now."""
    with held(places.folder):
        info = read_gate_info(places.folder)
        check_same_environment(info.environment)
        for side in SIDES:
            _check_same_side(side, info.sides[side], sides[side])
        return _carry_on(info, _Work(places, starters, observer, execute))


def _check_same_side(side: Side, before: PythonEnvironment, now: PythonEnvironment) -> None:
    """Rounds of three environments in one gate would be of no upgrade."""
    changed = differences(before, now)
    if changed or before.python != now.python:
        listed = ", ".join(f"{name} was {was}, is {found}" for name, (was, found) in changed.items())
        text = listed or f"it was {before.python}, is {now.python}"
        raise RunFolderError(f"{side} is not the environment that the gate began with ({text}); start a new gate")


def _require_exporters(info: GateInfo) -> None:
    """Say what an environment lacks before anything is written."""
    from vggbench.backends.registry import find_backend

    if any(find_backend(cell.backend).artefact_kind != "script" for cell in info.paired):
        for side in SIDES:
            require(side, info.sides[side], EXPORTING)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A paired round that is still to be made."""

    cell: Cell
    stage: int
    round: int


@dataclass(slots=True)
class _Work:
    """What carries on with a gate."""

    places: Places
    starters: Starters
    observer: Observer
    execute: Executor
    found: Mapping[str, Mapping[Side, Found]] = field(default_factory=dict)


def _carry_on(info: GateInfo, work: _Work) -> GateReport:
    folder = work.places.folder
    if not info.paired and not info.lacks:
        raise NothingToJudge("every cell is unsupported on both sides; `vggbench doctor` says why")
    try:
        info = _prepare(info, work)
        _measure(info, work, FIRST, info.paired)
        chosen = set(flagged(effects_of(info, read_pairs(folder, info)), info.rule))
        _measure(info, work, CONFIRMATION, tuple(cell for cell in info.paired if cell.id in chosen))
    except KeyboardInterrupt:
        done = len(read_pairs(folder, info))
        raise Interrupted(f"stopped after {done} paired rounds; continue with: {_resume(work.places)}") from None
    return report_of(info, read_pairs(folder, info))


def _resume(places: Places) -> str:
    command = ["vggbench", "gate", "--resume", "--output", str(places.folder)]
    if places.exports != DEFAULT_EXPORTS:
        command += ["--exports", str(places.exports)]
    return shlex.join(command)


def _prepare(info: GateInfo, work: _Work) -> GateInfo:
    """Make what both sides open; a gate that is resumed has to find what it began with."""
    work.found = prepare_sides(info.paired, work.places.exports, work.starters, work.observer.preparing)
    kept = {cell_id: {side: one[side].prepared for side in SIDES} for cell_id, one in work.found.items()}
    for side in SIDES:
        before = {cell_id: one[side] for cell_id, one in info.prepared.items()}
        check_same_artefacts(before, {cell_id: one[side] for cell_id, one in kept.items()})
    info = replace(info, prepared=kept)
    write_gate_info(work.places.folder, info)
    return info


def _measure(info: GateInfo, work: _Work, stage: int, cells: Sequence[Cell]) -> None:
    """Make what is left of a stage; a cell that failed is not tried again, since it would only fail again."""
    records = read_pairs(work.places.folder, info)
    steps = _steps(info, cells, stage, records)
    given_up = {cell.id for cell in cells if _unprepared(info.prepared[cell.id])}
    given_up |= {record.cell_id for record in records if not record.whole}
    if steps and stage == CONFIRMATION:
        work.observer.confirming(len(cells))
    journal = Journal(work.places.folder / PAIRS_NAME)
    for done, step in enumerate(steps):
        if step.cell.id in given_up:
            continue
        work.observer.measuring(step.cell, done, len(steps))
        record = work.execute(_request(info, work, step), work.starters)
        journal.append(record)
        work.observer.measured(step.cell, record)
        if not record.whole:
            given_up.add(step.cell.id)


def _steps(info: GateInfo, cells: Sequence[Cell], stage: int, records: Sequence[PairedRound]) -> list[_Step]:
    """Return what is left of a stage, in its order: each round has every cell once, in a random order of its own."""
    done = {(record.cell_id, record.round) for record in records if record.stage == stage}
    rounds, _level = info.rule.stages[stage - 1] if stage <= len(info.rule.stages) else (0, None)
    steps = []
    for number in range(rounds):
        order = list(cells)
        random.Random(f"{info.seed}/{stage}/{number}").shuffle(order)  # noqa: S311 - an order, not a secret
        steps += [_Step(cell=cell, stage=stage, round=number) for cell in order if (cell.id, number) not in done]
    return steps


def _unprepared(prepared: Mapping[Side, object]) -> bool:
    return any(getattr(one, "failure", None) is not None for one in prepared.values())


def _request(info: GateInfo, work: _Work, step: _Step) -> PairRequest:
    cell, pace = step.cell, info.pace
    draw = draw_round(info.seed, step.stage, step.round, cell.id, pace.pairs)
    seed = info.seed + step.round  # of the images' order: the same on both sides
    requests = {side: _side_request(cell, work.found[cell.id][side], step.round, seed, pace) for side in SIDES}
    return PairRequest(stage=step.stage, requests=requests, draw=draw, pace=pace, dropped=info.rule.dropped_iterations)


def _side_request(cell: Cell, found: Found, number: int, seed: int, pace: BlockPace) -> RoundRequest:
    assert found.materials is not None, "cells that could not be prepared are not measured"
    seconds = pace.pairs * pace.block_s
    return request_for(cell, found.materials, number, in_flight=1, seconds=seconds, seed=seed, timeout_s=pace.timeout_s)
