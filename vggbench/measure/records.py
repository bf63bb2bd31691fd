"""What a round leaves behind, as plain data: its sessions, proofs, blocks, or its failure. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vggbench.backends.base import Evidence
from vggbench.measure.latency import Block

FAILURES = ("failed", "timeout")  # the statuses of a round that ended early


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityRecord:
    """A session's verdict, as `parity.check.Verdict`; figures that are not finite are None.

    Attributes:
        passing_tolerance: the smallest tolerance these outputs would have passed.
        artefact_sha256: of the files that this session was opened on.
        quantization_error: against the network before it was quantised; None where it was not, or in journals from
            before it was kept.
    """

    passed: bool
    reasons: tuple[str, ...]
    metrics: Mapping[str, Any] | None
    tolerance: float
    outputs_compared: int
    passing_tolerance: float | None
    artefact_sha256: str
    quantization_error: float | None = None

    def __post_init__(self) -> None:
        for name in ("signal_error", "cosine", "top1_agreement") if self.metrics is not None else ():
            value = (self.metrics or {}).get(name, "missing")
            if isinstance(value, bool) or not isinstance(value, int | float | None):
                raise ValueError(f"{name} is {value!r}, not a number")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRecord:
    """The ring of batches that timed requests rotate over.

    Attributes:
        batches: how many there are.
        different: how many of them differ in a value.
        buffers: how many places in memory they occupy.
    """

    batches: int
    different: int
    buffers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """One session of a round: what it opened, what it proved, what it measured.

    Attributes:
        load_s: to open the artefact, without what is in `compile_s`.
        compile_s: None where the backend does not tell compiling apart from loading.
        compile_cached: whether the compiled code came from the backend's cache; None where that is not known.
        pinned_cpus: the CPUs that the process was kept to before the library was imported; None if it was not.
        inputs: what the timed requests rotate over; None in journals from before it was kept.
    """

    in_flight: int
    backend_version: str
    import_s: float
    load_s: float
    first_inference_ns: int
    timeline: str
    artefact_sha256: str
    evidence: Evidence
    parity: ParityRecord
    blocks: tuple[Block, ...]
    compile_s: float | None = None
    compile_cached: bool | None = None
    pinned_cpus: tuple[int, ...] | None = None
    inputs: InputRecord | None = None

    def __post_init__(self) -> None:
        for block in self.blocks:
            least = 1 if block.kind == "throughput" else 0  # a request may be faster than the clock, a window is not
            if not block.samples_ns or min(block.samples_ns) < least:
                raise ValueError(f"a {block.kind} block without samples, or of no time")
            if block.enqueue_ns and len(block.enqueue_ns) != len(block.samples_ns):
                raise ValueError(f"a {block.kind} block with {len(block.enqueue_ns)} times of enqueueing its samples")

    def samples(self, kind: str) -> list[list[int]]:
        """Return the samples (ns) of every block of that kind."""
        return [list(block.samples_ns) for block in self.blocks if block.kind == kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """At which stage a round ended early, as which status, and why."""

    stage: str
    status: str
    reason: str

    def __post_init__(self) -> None:
        if self.status not in FAILURES:
            raise ValueError(f"status is {self.status!r}, which no failure has; there are {', '.join(FAILURES)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRecord:
    """One line of the journal.

    Attributes:
        sessions: the latency session, then the throughput session; fewer if the round ended early.
        load_average: of the last minute, at the round's end; empty where the system has none.
        device_memory_bytes, device_allocated_bytes: the most that its process and torch's allocator held on a GPU; None
            on a CPU, where NVML does not tell, and in older journals.
        attempt: 1, or more where the round failed before and was asked for again; it then stands for the earlier ones.
    """

    cell_id: str
    round: int
    started_at: str
    seconds: float
    sessions: tuple[SessionRecord, ...]
    failure: Failure | None
    peak_memory_bytes: int | None
    load_average: float | None
    attempt: int = 1
    device_memory_bytes: int | None = None
    device_allocated_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the journal."""
        return asdict(self)


def gave_up(record: RoundRecord) -> bool:
    """Say whether a round ended so that further rounds of its cell would only repeat it."""
    return record.failure is not None or any(not session.parity.passed for session in record.sessions)
