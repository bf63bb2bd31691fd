"""One paired round: a fresh process of each side measures the same cell, block by block in turn, never both at once.

Whoever is not measuring blocks on its pipe. Each side verifies its session before anything is timed, and their outputs
are held against each other. Numpy and the standard library, beside what `measure` imports.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from vggbench.gate.environments import SIDES, Starter, Starters
from vggbench.gate.pairs import BlockPace, Draw, PairedRound, SideRecord, in_turn
from vggbench.gate.records import Side
from vggbench.measure.client import WorkerClient, WorkerFailure
from vggbench.measure.records import Failure
from vggbench.measure.request import RoundRequest
from vggbench.measure.rounds import open_session, session_record
from vggbench.parity.metrics import compare, has_signal


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRequest:
    """What a paired round is asked to do.

    Attributes:
        requests: each side's cell, files and reference.
        dropped: first samples of each block that will not count: they are timed beside those that do.
    """

    stage: int
    requests: Mapping[Side, RoundRequest]
    draw: Draw
    pace: BlockPace
    dropped: int

    @property
    def least_samples(self) -> int:
        """How many samples a block has at least."""
        return self.dropped + self.pace.least_kept


def paired_round(asked: PairRequest, starters: Starters) -> PairedRound:
    """Measure a cell once on both sides; whatever goes wrong in a worker is in the record, never raised."""
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vggbench-") as folder, ExitStack() as processes:
        outputs = {side: Path(folder) / f"{side}.npy" for side in SIDES}
        requests = {side: replace(asked.requests[side], outputs=str(outputs[side])) for side in SIDES}
        halves = {side: _Half(requests[side], asked, starters[side], processes) for side in SIDES}
        for side in asked.draw.starts:
            halves[side].open()
        difference, identical = _between(outputs)
        _alternate(halves, asked)
    base, head = (halves[side].record() for side in SIDES)
    return PairedRound(
        cell_id=asked.requests["base"].cell_id,
        stage=asked.stage,
        round=asked.requests["base"].round,
        started_at=started_at,
        seconds=time.monotonic() - start,
        draw=asked.draw,
        base=base,
        head=head,
        difference=difference,
        identical=identical,
    )


def _alternate(halves: Mapping[Side, _Half], asked: PairRequest) -> None:
    """Let both sides measure pair after pair, as long as both can."""
    for lead in asked.draw.leads:
        for side in in_turn(lead):
            if not all(half.ready for half in halves.values()):
                return
            halves[side].block()


def _between(outputs: Mapping[Side, Path]) -> tuple[float | None, bool | None]:
    """Return how far head's outputs are from base's, and whether they are the same to the bit."""
    if not all(path.is_file() for path in outputs.values()):
        return None, None
    base, head = (np.load(outputs[side], allow_pickle=False) for side in SIDES)
    identical = bool(np.array_equal(base, head))
    exact = base.astype(np.float64)
    if base.shape != head.shape or not has_signal(exact) or not np.isfinite(head).all():
        return None, identical  # what is wrong with such outputs was said where they were held against the reference
    return compare(head, exact).signal_error, identical


class _Half:
    """One side of a round: its process, and what it has found so far."""

    def __init__(self, request: RoundRequest, asked: PairRequest, start: Starter, processes: ExitStack) -> None:
        self._request, self._asked, self._start, self._processes = request, asked, start, processes
        self._worker: WorkerClient | None = None
        self._opened: dict[str, Any] | None = None
        self._blocks: list[dict[str, Any]] = []
        self._failure: Failure | None = None

    @property
    def ready(self) -> bool:
        """Whether it can measure: a time for something else than what was asked is worth nothing."""
        return self._failure is None and self._opened is not None and bool(self._opened["parity"].passed)

    def open(self) -> None:
        """Start the process, open and verify the session in it, and warm it up."""
        pace = self._asked.pace
        with self._failing():
            start = self._start(timeout_s=pace.timeout_s + 2 * pace.warmup_most_s)
            self._worker = self._processes.enter_context(start)
            self._opened = open_session(self._worker, self._request, 1)
            if self.ready:
                self._blocks.append(self._worker.call("warm", least_s=pace.warmup_least_s, most_s=pace.warmup_most_s))
                self._worker.call("rest", most_s=pace.rest_most_s)

    def block(self) -> None:
        """Time one block, and wait until the threads sleep that have computed: the other side comes next."""
        assert self._worker is not None
        with self._failing():
            block = {"kind": "compute", "seconds": self._asked.pace.block_s}
            self._blocks.append(self._worker.call("block", **block, least_samples=self._asked.least_samples))
            self._worker.call("rest", most_s=self._asked.pace.rest_most_s)

    def record(self) -> SideRecord:
        """Return what it came to."""
        session = None
        with self._failing():
            session = None if self._opened is None else session_record(self._opened, self._blocks)
        return SideRecord(session=session, failure=self._failure)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Keep how the process failed, the first time."""
        try:
            yield
        except WorkerFailure as error:
            self._failure = self._failure or Failure(stage=error.stage, status=error.status, reason=error.reason)
