"""Records of runs that never took place, written by hand."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

from tests.fakes import SPEC, fake_cell, fake_plan
from vggbench.backends.base import Evidence, LayerEvidence
from vggbench.measure.conditions import Conditions
from vggbench.measure.latency import Block, BlockKind
from vggbench.measure.records import Failure, ParityRecord, RoundRecord, SessionRecord
from vggbench.models.layers import mac_layers, totals, walk
from vggbench.plan import Cell
from vggbench.results.run_info import SCHEMA_VERSION, Prepared, RunInfo

SHA = "ab" * 32
MACS = totals(walk(SPEC)).macs


def block(kind: BlockKind, *samples_ms: float, images: int = 2, stop_reason: str = "time") -> Block:
    samples = tuple(round(sample * 1e6) for sample in samples_ms)
    return Block(kind=kind, samples_ns=samples, images=images, stop_reason=stop_reason)


def evidence(cell: Cell, **changes: Any) -> Evidence:
    layers = tuple(
        LayerEvidence(
            name=layer.name,
            operation=layer.operation,
            precision=cell.precision,
            placement="fake",
            macs=layer.macs * cell.batch_size,
        )
        for layer in mac_layers(cell.spec)
    )
    proof = Evidence(
        device="cpu",
        threads=cell.threads,
        batch_size=cell.batch_size,
        layers=layers,
        placements={"fake": len(layers)},
        flags={"tf32": "off"},
    )
    return replace(proof, **changes)


def parity(**changes: Any) -> ParityRecord:
    values: dict[str, Any] = {
        "passed": True,
        "reasons": (),
        "metrics": {"signal_error": 1e-6, "cosine": 0.9999, "top1_agreement": 1.0, "per_image": [1e-6] * 8},
        "tolerance": 1e-4,
        "outputs_compared": 8,
        "passing_tolerance": 1e-6,
        "artefact_sha256": SHA,
    }
    return ParityRecord(**{**values, **changes})


def failed_parity(reason: str = "the error is 0.5 of the signal") -> ParityRecord:
    return parity(passed=False, reasons=(reason,), metrics=None, passing_tolerance=None)


def session(cell: Cell, *blocks: Block, in_flight: int = 1, **changes: Any) -> SessionRecord:
    values: dict[str, Any] = {
        "in_flight": in_flight,
        "backend_version": "1.2",
        "import_s": 0.5,
        "load_s": 0.25,
        "first_inference_ns": 7_000_000,
        "timeline": "host",
        "artefact_sha256": SHA,
        "evidence": evidence(cell),
        "parity": parity(),
        "blocks": blocks,
    }
    return SessionRecord(**{**values, **changes})


def record(cell: Cell, number: int, *sessions: SessionRecord, failure: Failure | None = None) -> RoundRecord:
    return RoundRecord(
        cell_id=cell.id,
        round=number,
        started_at="2026-01-02T03:04:05+00:00",
        seconds=3.5,
        sessions=sessions,
        failure=failure,
        peak_memory_bytes=2**20 * (100 + number),
        load_average=None,
    )


def timed(
    cell: Cell, number: int, latency_ms: float, *, end_to_end_ms: float = 9.0, window_ms: float = 40.0
) -> RoundRecord:
    """Return a round whose median of blocks is the latency: one block of four was disturbed."""
    computes = [block("compute", latency_ms, latency_ms, 10 * latency_ms) for _ in range(3)]
    disturbed = block("compute", *[3 * latency_ms] * 3)
    latency = session(
        cell,
        block("warmup", 5 * latency_ms, stop_reason="steady"),
        *computes,
        disturbed,
        block("end_to_end", end_to_end_ms, end_to_end_ms + 1, end_to_end_ms - 1),
    )
    return record(cell, number, latency, session(cell, block("throughput", window_ms, images=20), in_flight=2))


def prepared(cell: Cell, **changes: Any) -> Prepared:
    whole = totals(walk(cell.spec))
    values: dict[str, Any] = {
        "artefact": {"kind": "script", "main": "script.json", "sha256": SHA, "seconds": 1.5},
        "artefact_bytes": 3 * 2**20,
        "reference_sha256": "cd" * 32,
        "tolerance": 1e-4,
        "macs": whole.macs,
        "parameters": whole.parameters,
        "works": tuple((layer.macs, layer.parameters) for layer in mac_layers(cell.spec)),
    }
    return Prepared(**{**values, **changes})


def info(*cells: Cell, rounds: int = 6, **changes: Any) -> RunInfo:
    values: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "vggbench_version": "0.1.0",
        "started_at": "2026-01-02T03:04:05+00:00",
        "plan": fake_plan(*cells, rounds=rounds),
        "environment": {"system": {"driver": None}, "libraries": {"numpy": "2.0", "torch": None}, "commit": "c0ffee"},
        "device_name": "A processor",
        "backend_versions": {"fake": "1", "torch": "2.11"},
        "prepared": {cell.id: prepared(cell) for cell in cells if not cell.unsupported},
    }
    return RunInfo(**{**values, **changes})


def rounds(cell: Cell, latencies_ms: Sequence[float]) -> list[RoundRecord]:
    return [timed(cell, number, latency) for number, latency in enumerate(latencies_ms)]


def changed(document: Any, path: Sequence[str | int], value: Any) -> Any:
    """Return a copy of JSON data with one value set or, for `...`, removed."""
    other = copy.deepcopy(document)
    place = other
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return other


def conditions(**changes: Any) -> Conditions:
    """Return a second on two CPUs that nobody disturbed; 1 % of the CPU time was others'."""
    values: dict[str, Any] = {"wall_s": 1.0, "cpus": 2, "own_cpu_s": 1.5, "parent_cpu_s": 0.02, "busy_s": 1.54}
    return Conditions(**{**values, **changes})


CELL = fake_cell()


def disturbed(*clocks_mhz: float, **changes: Any) -> list[RoundRecord]:
    """Return six rounds of one timed block each under the same conditions, with these clocks in turn."""
    clocks = clocks_mhz or (None,)
    return [
        record(
            CELL,
            number,
            session(CELL, replace(block("compute", 1.0), conditions=conditions(clock_mhz=clock, **changes))),
        )
        for number, clock in zip(range(6), cycle(clocks), strict=False)
    ]
