"""Plan -> rounds -> rows: the run folder, the order of rounds, and what happens when it is interrupted.

Rounds are made by an `Executor`; local worker processes are one. Imports no backend's library and no pandas at start.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from vggbench import environment
from vggbench.artefacts.space import check_room
from vggbench.artefacts.store import DEFAULT_EXPORTS
from vggbench.backends.registry import REAL_BACKENDS
from vggbench.errors import ArtefactError, Interrupted, RequestError, RunFolderError
from vggbench.measure.ceilings import measure_ceilings
from vggbench.measure.gpu_state import idle_power_w
from vggbench.measure.records import RoundRecord, gave_up
from vggbench.measure.request import RoundRequest
from vggbench.measure.roofline import Ceiling
from vggbench.measure.rounds import Executor, executor_of, verify_round
from vggbench.measure.saturation import TriedRate, most_productive
from vggbench.plan import Cell, Plan
from vggbench.plan.order import schedule
from vggbench.preparation import Materials, missing_bytes, prepare_all, request_for
from vggbench.results.columns import Row
from vggbench.results.journal import JOURNAL_NAME, Journal, read_rounds
from vggbench.results.rows import derive_rows
from vggbench.results.run_folder import discard, held, make_folder
from vggbench.results.run_info import FILE_NAME, SCHEMA_VERSION, Prepared, RunInfo, read_run_info, write_run_info
from vggbench.version import VERSION

# Measures the machine's ceilings for a plan, before and after its rounds.
Gauge = Callable[[Plan], Sequence[Ceiling]]


def plan_ceilings(plan: Plan) -> list[Ceiling]:
    """Measure the ceilings of a plan's devices and precisions; none where no cell of it runs a real library."""
    cells = [cell for cell in plan.cells if not cell.unsupported and cell.backend in REAL_BACKENDS]
    if not cells:
        return []
    precisions = sorted({cell.precision for cell in cells})
    return measure_ceilings(device=cells[0].device, threads=cells[0].threads, precisions=precisions)


# Tries several requests in flight before the rounds; `saturate` is one.
Search = Callable[[RoundRequest], Sequence[TriedRate]]


class Observer(Protocol):
    """Is told how a run gets on."""

    def preparing(self, cell: Cell) -> None:
        """Hear that the cell's files are made or found next."""
        ...

    def gauging(self) -> None:
        """Hear that the machine's ceilings are measured next."""
        ...

    def saturating(self, cell: Cell) -> None:
        """Hear that several requests in flight are tried on the cell next."""
        ...

    def measuring(self, cell: Cell, done: int, total: int) -> None:
        """Hear that a round of the cell begins, `done` of `total` being over."""
        ...

    def measured(self, cell: Cell, record: RoundRecord) -> None:
        """Hear what the round found."""
        ...


class Silent:
    """An observer that says nothing."""

    def preparing(self, cell: Cell) -> None:
        """Say nothing."""

    def gauging(self) -> None:
        """Say nothing."""

    def saturating(self, cell: Cell) -> None:
        """Say nothing."""

    def measuring(self, cell: Cell, done: int, total: int) -> None:
        """Say nothing."""

    def measured(self, cell: Cell, record: RoundRecord) -> None:
        """Say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a run lives and where its artefacts are kept."""

    folder: Path
    exports: Path


def default_folder() -> Path:
    """Return a folder of this moment; the second is enough for people, and a clash is refused."""
    return Path("reports") / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S")


def start_run(
    plan: Plan,
    places: Places,
    *,
    backend_versions: Mapping[str, str],
    observer: Observer | None = None,
    execute: Executor | None = None,
    gauge: Gauge | None = None,
    search: Search | None = None,
) -> list[Row]:
    """Prepare, measure and report every cell of the plan in a new run folder; returns the rows.

    Raises `DiskSpaceError` before anything is written if there is no room for the artefacts.
    """
    check_room(missing_bytes(plan, places.exports), places.exports)
    made = make_folder(places.folder)
    with held(places.folder):
        _refuse_used(places.folder)
        info = new_info(plan, backend_versions)
        write_run_info(places.folder, info)
        try:
            return _carry_on(info, places, observer or Silent(), _Means(execute, gauge, search))
        except RequestError as error:
            # What is wrong with a place can be put right; a wrong request would be wrong again.
            if not isinstance(error, ArtefactError | RunFolderError):
                discard(places.folder, FILE_NAME, made=made)
            raise


def resume_run(
    places: Places,
    *,
    retry_failed: bool = False,
    observer: Observer | None = None,
    execute: Executor | None = None,
    gauge: Gauge | None = None,
    search: Search | None = None,
) -> list[Row]:
    """Continue the run in a folder where its journal ends; returns the rows of the whole run.

    With `retry_failed`, rounds that failed are made again, and those that were given up for them; the journal keeps
    what they failed with.
    """
    read_run_info(places.folder)  # says that there is no run before a lock is made there
    with held(places.folder):
        info = read_run_info(places.folder)
        check_same_environment(info.environment)
        means = _Means(execute, gauge, search)
        return _carry_on(info, places, observer or Silent(), means, retry_failed=retry_failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What one cell's verification was made of."""

    cell: Cell
    materials: Materials
    request: RoundRequest
    record: RoundRecord


def verify_plan(
    plan: Plan, exports: Path, *, backend_versions: Mapping[str, str], observer: Observer | None = None
) -> list[Row]:
    """Open and verify every cell without timing it; returns the rows, nothing is kept."""
    return verify_cells(plan, exports, backend_versions=backend_versions, observer=observer)[0]


def verify_cells(
    plan: Plan, exports: Path, *, backend_versions: Mapping[str, str], observer: Observer | None = None
) -> tuple[list[Row], list[Verification]]:
    """Open and verify every cell; returns the rows, and what each was made of where there was something to open."""
    check_room(missing_bytes(plan, exports), exports)
    watch = observer or Silent()
    kept, found = prepare_all(plan, exports, watch.preparing)
    info = replace(new_info(plan, backend_versions), prepared=kept)
    cells = [cell for cell in plan.cells if cell.id in found]
    made = []
    for done, cell in enumerate(cells):
        watch.measuring(cell, done, len(cells))
        request = round_request(info, cell, 0, found[cell.id])
        record = verify_round(request)
        made.append(Verification(cell=cell, materials=found[cell.id], request=request, record=record))
        watch.measured(cell, record)
    return derive_rows(info, [each.record for each in made]), made


@dataclass(frozen=True, slots=True)
class _Means:
    """What measures; what is None is left out, but `execute`: the device's own way then."""

    execute: Executor | None
    gauge: Gauge | None
    search: Search | None


def _carry_on(
    info: RunInfo, places: Places, observer: Observer, means: _Means, *, retry_failed: bool = False
) -> list[Row]:
    from vggbench.report.derive import derive

    try:
        found = _prepare(info, places, observer)
        records = read_rounds(places.folder, info.plan)
        steps = _steps(info.plan, found, records, retry_failed=retry_failed)
        if steps:
            _note_ceilings(places.folder, means.gauge, observer)
            _note_in_flight(places.folder, found, means.search, observer)
            with executor_of(info.plan.cells[0].device) as usual:
                _measure(places.folder, steps, found, observer, means.execute or usual)
            _note_ceilings(places.folder, means.gauge, observer)
    except KeyboardInterrupt:
        derive(places.folder)
        done = len(read_rounds(places.folder, info.plan))
        raise Interrupted(f"stopped after {done} rounds; continue with: {_resume_command(places)}") from None
    return derive(places.folder)


def _resume_command(places: Places) -> str:
    command = ["vggbench", "run", "--resume", "--output", str(places.folder)]
    if places.exports != DEFAULT_EXPORTS:
        command += ["--exports", str(places.exports)]
    return shlex.join(command)


def new_info(plan: Plan, backend_versions: Mapping[str, str]) -> RunInfo:
    """Return the head of a run that starts now, with nothing prepared."""
    device = plan.cells[0].device
    return RunInfo(
        schema_version=SCHEMA_VERSION,
        vggbench_version=VERSION,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        plan=plan,
        environment=environment.collect().to_json(),
        device_name=environment.device_name(device),
        backend_versions=dict(backend_versions),
        prepared={},
        idle_power_w=idle_power_w(device),
    )


def check_same_environment(before: Mapping[str, Any]) -> None:
    """Rounds of two environments in one run would be averaged into a number of neither."""
    different = environment.comparable(before, environment.collect().to_json())
    if different:
        listed = ", ".join(f"{name} was {was!r}, is {now!r}" for name, (was, now) in different.items())
        raise RunFolderError(f"the run was started in another environment ({listed}); start a new one")


def _prepare(info: RunInfo, places: Places, observer: Observer) -> dict[str, Materials]:
    kept, found = prepare_all(info.plan, places.exports, observer.preparing)
    check_same_artefacts(info.prepared, kept)
    before = {cell_id: prepared.in_flight_tried for cell_id, prepared in info.prepared.items()}
    kept = {cell_id: replace(one, in_flight_tried=before.get(cell_id, ())) for cell_id, one in kept.items()}
    write_run_info(places.folder, replace(info, prepared=kept))
    return found


def _note_ceilings(folder: Path, gauge: Gauge | None, observer: Observer) -> None:
    """Add what the machine can do at best now to what it could before; without a gauge nothing is measured."""
    if gauge is None:
        return
    observer.gauging()
    info = read_run_info(folder)
    write_run_info(folder, replace(info, ceilings=(*info.ceilings, *gauge(info.plan))))


def _note_in_flight(folder: Path, found: Mapping[str, Materials], search: Search | None, observer: Observer) -> None:
    """Find out once for each cell how many requests in flight complete the most images, and keep what was seen."""
    info = read_run_info(folder)
    if search is None or not info.plan.search_in_flight:
        return
    for cell in info.plan.cells:
        if cell.id not in found or info.prepared[cell.id].in_flight_tried:
            continue
        observer.saturating(cell)
        tried = tuple(search(round_request(info, cell, 0, found[cell.id])))
        info = replace(
            info, prepared={**info.prepared, cell.id: replace(info.prepared[cell.id], in_flight_tried=tried)}
        )
        write_run_info(folder, info)


def check_same_artefacts(before: Mapping[str, Prepared], now: Mapping[str, Prepared]) -> None:
    """A resumed run times the files that it began with, against the reference it began with, or it is another run."""
    for cell_id in before.keys() & now.keys():
        earlier, later = before[cell_id], now[cell_id]
        if earlier.failure or later.failure:
            continue
        if earlier.artefact.get("sha256") != later.artefact.get("sha256"):
            raise RunFolderError(f"the artefact of cell {cell_id} is not the one the run began with; start a new run")
        if earlier.reference_sha256 != later.reference_sha256:
            raise RunFolderError(f"the reference of cell {cell_id} is not the one the run began with; start a new run")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A round that is still to be made."""

    cell: Cell
    round: int
    attempt: int


def _steps(
    plan: Plan, found: Mapping[str, Materials], records: Sequence[RoundRecord], *, retry_failed: bool
) -> list[_Step]:
    """Return what is left of the plan, in its order: neither finished nor given up."""
    attempts = {(record.cell_id, record.round): record.attempt for record in records}
    kept = [record for record in records if not (retry_failed and record.failure)]
    finished = {(record.cell_id, record.round) for record in kept}
    given_up = {record.cell_id for record in kept if gave_up(record)}
    cells = [cell for cell in plan.cells if cell.id in found]
    return [
        _Step(cell=cell, round=number, attempt=attempts.get((cell.id, number), 0) + 1)
        for number, cell in schedule(cells, plan.rounds, plan.seed)
        if (cell.id, number) not in finished and cell.id not in given_up
    ]


def _measure(
    folder: Path, steps: Sequence[_Step], found: Mapping[str, Materials], observer: Observer, execute: Executor
) -> None:
    info = read_run_info(folder)
    journal = Journal(folder / JOURNAL_NAME)
    given_up: set[str] = set()
    for done, step in enumerate(steps):
        cell = step.cell
        if cell.id in given_up:
            continue
        observer.measuring(cell, done, len(steps))
        made = execute(round_request(info, cell, step.round, found[cell.id]))
        record = replace(made, attempt=step.attempt)
        journal.append(record)
        observer.measured(cell, record)
        if gave_up(record):
            given_up.add(cell.id)


def round_request(info: RunInfo, cell: Cell, number: int, found: Materials) -> RoundRequest:
    """Return what a round of the cell is asked to do."""
    plan = info.plan
    return request_for(
        cell,
        found,
        number,
        in_flight=most_productive(info.prepared[cell.id].in_flight_tried, cell.in_flight),
        seconds=plan.round_seconds,
        seed=plan.seed + number,
        timeout_s=plan.timeout_s,
    )


def _refuse_used(folder: Path) -> None:
    from vggbench.report.derive import DERIVED_NAMES

    if (folder / FILE_NAME).exists():
        raise RunFolderError(f"{folder} holds a run already; continue it with --resume or name another folder")
    if (folder / JOURNAL_NAME).exists():  # its rounds would be taken for this run's
        raise RunFolderError(f"{folder} holds the rounds of a run without its {FILE_NAME}; name another folder")
    for name in DERIVED_NAMES:
        if (folder / name).exists():
            raise RunFolderError(f"{folder} holds a {name} that a run would replace; name another folder")
