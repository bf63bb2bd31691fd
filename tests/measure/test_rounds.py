"""A round with a real worker process, and what becomes of it when something goes wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.fakes import InlineWorker, fake_cell, fake_request
from vggbench.measure.records import RoundRecord, gave_up
from vggbench.measure.request import Timing
from vggbench.measure.rounds import run_round, verify_round

BLOCKS = Timing.of_seconds(1).compute_blocks
KINDS = ["warmup", *["compute"] * BLOCKS, "end_to_end"]


def kinds(record: RoundRecord) -> list[list[str]]:
    return [[block.kind for block in session.blocks] for session in record.sessions]


def test_a_round_measures_latency_then_throughput(fake_exports: Path):
    cell = fake_cell(latency_ms="5")
    record = run_round(fake_request(cell, fake_exports, round=4))
    assert record.failure is None
    assert (record.cell_id, record.round) == (cell.id, 4)
    assert kinds(record) == [KINDS, ["throughput"]]
    assert [session.in_flight for session in record.sessions] == [1, 2]
    assert all(session.parity.passed for session in record.sessions)
    latency, throughput = record.sessions
    assert latency.samples("compute") == [[5_000_000] * 3] * BLOCKS
    (window,) = throughput.blocks
    assert window.images * 1e9 / window.samples_ns[0] == pytest.approx(2 * 2 / 0.005)
    assert record.seconds > 0
    assert record.peak_memory_bytes is None or record.peak_memory_bytes > 2**20


def test_verifying_times_nothing(fake_exports: Path):
    record = verify_round(fake_request(fake_cell(), fake_exports))
    assert record.failure is None
    assert kinds(record) == [[]]
    assert record.sessions[0].parity.passed


KILLED = "the worker was killed by SIGKILL, perhaps by the kernel because memory ran out (try a smaller batch)"
TOO_MUCH = "MemoryError: Unable to allocate 1.00 EiB for an array with shape (1152921504606846976,) and data type int8"


@pytest.mark.parametrize(
    ("fault", "stage", "reason"),
    [
        ("open", "open", "RuntimeError: the script says that opening fails"),
        ("run", "open", "RuntimeError: the script says that running fails"),
        ("crash", "open", KILLED),
        ("segfault", "open", "the worker was killed by SIGSEGV"),
        ("garbage", "open", "the worker wrote 'loading kernels\\n' where an answer belongs"),
        ("memory", "open", TOO_MUCH),
    ],
)
def test_a_round_that_breaks_ends_with_stage_and_reason(fake_exports: Path, fault: str, stage: str, reason: str):
    record = run_round(fake_request(fake_cell(fault=fault), fake_exports))
    assert record.failure is not None
    assert (record.failure.stage, record.failure.status, record.failure.reason) == (stage, "failed", reason)
    assert record.sessions == ()
    assert gave_up(record)


@pytest.mark.parametrize("fault", ["wrong", "nan", "constant", "shape"])
def test_wrong_outputs_are_not_timed(inline_workers: None, fake_exports: Path, fault: str):
    record = run_round(fake_request(fake_cell(fault=fault), fake_exports))
    assert record.failure is None
    assert kinds(record) == [[]]
    assert not record.sessions[0].parity.passed
    assert gave_up(record)


@pytest.mark.parametrize("fault", ["precision", "fallback", "batch"])
def test_what_ran_as_something_else_is_still_measured(inline_workers: None, fake_exports: Path, fault: str):
    record = run_round(fake_request(fake_cell(fault=fault), fake_exports))
    assert kinds(record) == [KINDS, ["throughput"]]
    assert not gave_up(record)


class Misremembering(InlineWorker):
    """A worker whose answers are changed on their way."""

    changes: ClassVar[dict[str, dict[str, Any]]] = {}

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        return {**super().call(command, **arguments), **self.changes.get(command, {})}


@pytest.mark.parametrize(
    ("changes", "stage", "where"),
    [
        ({"verify": {"passed": "perhaps"}}, "verify", "passed"),
        ({"evidence": {"layers": 3}}, "session", "evidence.layers"),
        ({"open": {"load_s": None}}, "session", "load_s"),
        ({"block": {"samples_ns": ["a"]}}, "session", "blocks.1.samples_ns.0"),
    ],
)
def test_what_a_worker_says_is_checked(
    inline_workers: None, fake_exports: Path, monkeypatch: pytest.MonkeyPatch, changes, stage: str, where: str
):
    monkeypatch.setattr(Misremembering, "changes", changes)
    monkeypatch.setattr("vggbench.measure.rounds.WorkerClient", Misremembering)
    record = run_round(fake_request(fake_cell(), fake_exports))
    assert record.failure is not None
    assert record.failure.stage == stage
    assert f"the worker's answer is no record: {where}:" in record.failure.reason


def test_a_throughput_session_that_breaks_leaves_the_latency(
    inline_workers: None, fake_exports: Path, monkeypatch: pytest.MonkeyPatch
):
    class Second(InlineWorker):
        def call(self, command: str, **arguments: Any) -> dict[str, Any]:
            if arguments.get("kind") == "throughput":
                arguments["kind"] = "nonsense"
            return super().call(command, **arguments)

    monkeypatch.setattr("vggbench.measure.rounds.WorkerClient", Second)
    record = run_round(fake_request(fake_cell(), fake_exports))
    assert record.failure is not None
    assert record.failure.stage == "block"
    assert kinds(record) == [KINDS]


def test_a_second_session_whose_outputs_are_wrong_is_not_timed(
    inline_workers: None, fake_exports: Path, monkeypatch: pytest.MonkeyPatch
):
    class Second(InlineWorker):
        def call(self, command: str, **arguments: Any) -> dict[str, Any]:
            if arguments.get("in_flight") == 2:
                arguments["options"] = {"fault": "wrong"}
            return super().call(command, **arguments)

    monkeypatch.setattr("vggbench.measure.rounds.WorkerClient", Second)
    record = run_round(fake_request(fake_cell(), fake_exports))
    assert kinds(record) == [KINDS, []]
    assert gave_up(record)


def test_outputs_are_looked_at_again_after_they_were_timed(fake_exports: Path, monkeypatch: pytest.MonkeyPatch):
    """A library that stops taking its input after some requests passes parity, and would be very fast."""
    monkeypatch.setattr("vggbench.measure.rounds.WorkerClient", InlineWorker)
    timing = replace(Timing.of_seconds(0.3), least_samples=20)
    record = run_round(fake_request(fake_cell(batch_size=1, fault="stale"), fake_exports, timing=timing))
    assert all(session.parity.passed for session in record.sessions)
    wrong = [block.wrong for session in record.sessions for block in session.blocks if block.wrong]
    assert wrong
    assert all("alone has an error of" in text for text in wrong)


def test_right_outputs_are_right_after_every_block(fake_exports: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vggbench.measure.rounds.WorkerClient", InlineWorker)
    record = run_round(fake_request(fake_cell(), fake_exports))
    assert [block.wrong for session in record.sessions for block in session.blocks] == [""] * (len(KINDS) + 1)
    assert [len(block.last_batches) for block in record.sessions[1].blocks] == [2]
