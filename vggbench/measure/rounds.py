"""One round: a fresh worker measures one cell. What local runs, the gate and a cluster all call."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from vggbench.measure.client import WorkerClient, WorkerFailure
from vggbench.measure.predicting import Prediction
from vggbench.measure.profiling import LEAST_REQUESTS, Profile, enough_requests
from vggbench.measure.records import Failure, ParityRecord, RoundRecord, SessionRecord
from vggbench.measure.request import RoundRequest

_SESSION = TypeAdapter(SessionRecord)
_PARITY = TypeAdapter(ParityRecord)
_PROFILE = TypeAdapter(Profile)
_PREDICTION = TypeAdapter(Prediction)

# How PyTorch, cuDNN and cuBLAS, ONNX Runtime and TensorRT say that a GPU's memory ran out, in small letters.
_OUT_OF_MEMORY = (
    "out of memory",
    "alloc_failed",
    "failed to allocate memory",
    "is smaller than requested",
    "outofmemory",
)

Record = TypeVar("Record")
Blocks = Iterator[dict[str, Any]]
Measurement = Callable[[WorkerClient, RoundRequest], Iterator[SessionRecord]]
Timer = Callable[[WorkerClient, RoundRequest], Blocks]
Lender = Callable[[RoundRequest], AbstractContextManager[WorkerClient]]


class Executor(Protocol):
    """Makes one round, wherever that is; never raises for what goes wrong in it."""

    def __call__(self, request: RoundRequest) -> RoundRecord:
        """Return the round's record."""
        ...


def run_round(request: RoundRequest) -> RoundRecord:
    """Measure the cell once; whatever goes wrong in the worker is in the record, never raised."""
    return _round(request, _both_sessions)


def verify_round(request: RoundRequest) -> RoundRecord:
    """Open and verify the cell without timing it."""
    return _round(request, _verified_session)


def verify_in_turn(requests: Iterable[RoundRequest]) -> Iterator[RoundRecord]:
    """Open and verify cells one after the other, those of one backend that follow each other in one process.

    For where nothing is timed: importing a library takes longer than verifying a small network. What breaks a process
    ends with it, and the next cell has a new one.
    """
    with _Shared(_same_library) as shared:
        for request in requests:
            yield _round(request, _verified_session, shared.lend)


@contextmanager
def executor_of(device: str) -> Iterator[Executor]:
    """Yield what makes rounds on a device: on a CPU each in a process of its own.

    On a GPU a round of all batches of an engine has one process, where they follow each other: to start a library and
    to load a network takes longer there than to measure it. What breaks a process ends with it.
    """
    if device == "cpu":
        yield run_round
        return
    with _Shared(_same_engine) as shared:

        def run_in_turn(request: RoundRequest) -> RoundRecord:
            return _round(request, _both_sessions, shared.lend)

        yield run_in_turn


def _same_library(request: RoundRequest) -> object:
    """What must not change within a process; on a GPU some libraries read once which precision is allowed."""
    return request.backend if request.device == "cpu" else (request.backend, request.precision)


def _same_engine(request: RoundRequest) -> object:
    return request.round, request.backend, request.precision, dict(request.options), request.artefact["sha256"]


def profile_round(request: RoundRequest, requests: int | None) -> tuple[RoundRecord, Profile | None]:
    """Time the cell as it is, then profile it in a session that is verified, too; None where it came to no profile.

    Without a number of requests, as many as fill a few seconds.
    """
    found: list[Profile] = []

    def measure(worker: WorkerClient, request: RoundRequest) -> Iterator[SessionRecord]:
        plain = _session(worker, request, 1, _time_plainly)
        yield plain
        if plain.parity.passed:
            worker.call("start_profiling")
            parity = _believed(_PARITY, "verify", worker.call("verify", tolerance=request.tolerance))
            yield replace(plain, parity=parity, blocks=())
            if parity.passed:
                count = requests or enough_requests(plain.samples("compute")[0])
                found.append(_believed(_PROFILE, "profile", worker.call("profile", requests=count)))

    record = _round(request, measure)
    return record, found[0] if found and record.failure is None else None


def predict_round(
    request: RoundRequest, batches: Iterable[NDArray[np.float32]], hear: Callable[[Prediction], None]
) -> RoundRecord:
    """Open and verify the cell, and let that session predict batch after batch; `hear` is told what it said of each.

    Batches are fp32 `(n, 3, S, S)` with up to as many images as the cell's; nothing is predicted where parity failed.
    """

    def measure(worker: WorkerClient, request: RoundRequest) -> Iterator[SessionRecord]:
        session = _session(worker, request, 1, _time_nothing)
        yield session
        if session.parity.passed:
            with _scratch_file() as path:
                for batch in batches:
                    hear(_predict(worker, batch, request.batch_size, path))

    return _round(request, measure)


@contextmanager
def _scratch_file() -> Iterator[Path]:
    """Yield the path of a file that a worker can read; errors of the disk become the round's."""
    try:
        with tempfile.TemporaryDirectory(prefix="vggbench-") as folder:
            yield Path(folder) / "batch.npy"
    except OSError as error:
        raise WorkerFailure("predict", "failed", f"no temporary file can be written: {error.strerror}") from None


def _predict(worker: WorkerClient, batch: NDArray[np.float32], batch_size: int, path: Path) -> Prediction:
    """Let a session of fixed batch size predict as many images or fewer, the last of them repeated."""
    count = len(batch)
    np.save(path, batch[np.minimum(np.arange(batch_size), count - 1)])
    found = _believed(_PREDICTION, "predict", worker.call("predict", inputs=str(path)))
    return replace(found, classes=found.classes[:count], probabilities=found.probabilities[:count])


def _fresh(request: RoundRequest) -> AbstractContextManager[WorkerClient]:
    """Return a process of the round's own, which ends with it."""
    return WorkerClient(timeout_s=request.timeout_s + request.timing.longest_s)


class _Shared:
    """A process that is kept for the next request that has the same in common with it, unless it broke."""

    def __init__(self, common: Callable[[RoundRequest], object]) -> None:
        self._common = common
        self._kept = ExitStack()
        self._worker: WorkerClient | None = None
        self._for: object = None

    @contextmanager
    def lend(self, request: RoundRequest) -> Iterator[WorkerClient]:
        if self._worker is None or self._common(request) != self._for:
            self._end()
            self._worker, self._for = self._kept.enter_context(_fresh(request)), self._common(request)
        try:
            yield self._worker
        except WorkerFailure:
            self._end()
            raise

    def _end(self) -> None:
        self._worker = None
        self._kept.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._end()


def _round(request: RoundRequest, measure: Measurement, lend: Lender = _fresh) -> RoundRecord:
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    start = time.monotonic()
    sessions: list[SessionRecord] = []
    failure: Failure | None = None
    memory: dict[str, Any] = {}
    try:
        with lend(request) as worker:
            for session in measure(worker, request):
                sessions.append(session)  # noqa: PERF402 - what was finished before a failure is kept
            memory = worker.call("close")
    except WorkerFailure as error:
        failure = Failure(stage=error.stage, status=error.status, reason=_reason(error, request))
    return RoundRecord(
        cell_id=request.cell_id,
        round=request.round,
        started_at=started_at,
        seconds=time.monotonic() - start,
        sessions=tuple(sessions),
        failure=failure,
        peak_memory_bytes=memory.get("peak_memory_bytes"),
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        device_memory_bytes=memory.get("device_memory_bytes"),
        device_allocated_bytes=memory.get("device_allocated_bytes"),
    )


def _reason(error: WorkerFailure, request: RoundRequest) -> str:
    """Return why a round failed, with the batch where a GPU's memory ran out."""
    said = error.reason.lower()
    if request.device == "cpu" or not any(words in said for words in _OUT_OF_MEMORY):
        return error.reason
    return f"out of memory at batch {request.batch_size}: {error.reason}; use a smaller --batch-size"


def _both_sessions(worker: WorkerClient, request: RoundRequest) -> Iterator[SessionRecord]:
    latency = _session(worker, request, 1, _time_latency)
    yield latency
    if latency.parity.passed:
        yield _session(worker, request, request.in_flight, _time_throughput)


def _verified_session(worker: WorkerClient, request: RoundRequest) -> Iterator[SessionRecord]:
    yield _session(worker, request, 1, _time_nothing)


def _session(worker: WorkerClient, request: RoundRequest, in_flight: int, measure: Timer) -> SessionRecord:
    opened = open_session(worker, request, in_flight)
    # A time for something else than what was asked is worth nothing.
    return session_record(opened, list(measure(worker, request)) if opened["parity"].passed else [])


def open_session(worker: WorkerClient, request: RoundRequest, in_flight: int) -> dict[str, Any]:
    """Open and verify a session; return what its record has before anything is timed, `parity` as a `ParityRecord`."""
    opened = worker.call("open", **request.opening(in_flight))
    evidence = worker.call("evidence")
    kept = {"outputs": request.outputs} if request.outputs else {}
    parity = _believed(_PARITY, "verify", worker.call("verify", tolerance=request.tolerance, **kept))
    return {**opened, "in_flight": in_flight, "evidence": evidence, "parity": parity}


def session_record(opened: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]]) -> SessionRecord:
    """Return the record of a session that was opened, with what was timed in it; raises `WorkerFailure`."""
    return _believed(_SESSION, "session", {**opened, "blocks": blocks})


def _time_latency(worker: WorkerClient, request: RoundRequest) -> Blocks:
    timing = request.timing
    least = timing.least_samples
    block = {"kind": "compute", "seconds": timing.compute_block_s, "least_samples": least}
    yield worker.call("warm", least_s=timing.warmup_least_s, most_s=timing.warmup_most_s)
    for _ in range(timing.compute_blocks):
        yield worker.call("block", **block, wanted_samples=timing.wanted_samples)
    yield worker.call("block", kind="end_to_end", seconds=timing.end_to_end_s, least_samples=least)
    if request.device != "cpu":
        yield worker.call("block", kind="host", seconds=timing.compute_block_s, least_samples=least)
        for kind in ("copy_in", "copy_out"):
            yield worker.call("block", kind=kind, seconds=timing.copy_s, least_samples=least)


def _time_plainly(worker: WorkerClient, request: RoundRequest) -> Blocks:
    timing = request.timing
    yield worker.call("warm", least_s=timing.warmup_least_s, most_s=timing.warmup_most_s)
    yield worker.call("block", kind="compute", seconds=timing.compute_s, least_samples=LEAST_REQUESTS)


def _time_throughput(worker: WorkerClient, request: RoundRequest) -> Blocks:
    yield worker.call("block", kind="throughput", seconds=request.timing.throughput_s)


def _time_nothing(_worker: WorkerClient, _request: RoundRequest) -> Blocks:
    return iter(())


def _believed(adapter: TypeAdapter[Record], stage: str, answer: dict[str, Any]) -> Record:
    """Check what a process sent before it is believed."""
    try:
        return adapter.validate_python(answer)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise WorkerFailure(stage, "failed", f"the worker's answer is no record: {where}: {first['msg']}") from None
