"""From a run's head and journal to rows: everything a row says is derived here, and can be derived again.

No torch, no pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from vggbench.measure.records import RoundRecord, SessionRecord, gave_up
from vggbench.measure.validity import Finding, gravest, is_of_what_was_asked, judge_evidence, precision_shares
from vggbench.models.network_file import Network, NetworkFile
from vggbench.models.spec import IMAGENET, ModelSpec
from vggbench.plan import DEFAULT_ROUNDS, Cell, format_options
from vggbench.results.columns import Row
from vggbench.results.run_info import Prepared, RunInfo
from vggbench.stats import hodges_lehmann, median, quantile, signed_rank_interval

_MIB = 2**20
# Fewer than ten samples beyond a percentile say little of it.
_LEAST_SAMPLES = {0.90: 100, 0.99: 1000}


def derive_rows(info: RunInfo, records: Iterable[RoundRecord]) -> list[Row]:
    """Return one row a cell of the plan, in the plan's order."""
    plan = info.plan
    by_cell: dict[str, list[RoundRecord]] = {cell.id: [] for cell in plan.cells}
    for record in records:
        if record.cell_id in by_cell:
            by_cell[record.cell_id].append(record)
    rows = [
        _row(info, plan.rounds, cell, sorted(by_cell[cell.id], key=lambda record: record.round)) for cell in plan.cells
    ]
    return _with_speedups(rows)


def _row(info: RunInfo, planned_rounds: int, cell: Cell, records: Sequence[RoundRecord]) -> Row:
    prepared = info.prepared.get(cell.id, Prepared())
    finished = [record for record in records if record.failure is None]
    findings = _findings(cell, prepared, records, planned_rounds)
    texts = [finding.reason for finding in findings] + _notes(cell, finished)
    values = {
        **_identity(info, cell, prepared),
        **_artefact(prepared),
        **_proof(records),
        **_figures(finished),
        **_costs(records),
        "status": gravest(findings),
        "reasons": "; ".join(dict.fromkeys(texts)) or None,
        "rounds": len(finished),
    }
    return Row(**values)


def _identity(info: RunInfo, cell: Cell, prepared: Prepared) -> dict[str, Any]:
    return {
        **_network(cell.spec),
        "backend": cell.backend,
        "options": " ".join(format_options(cell.options)) or None,
        "precision": cell.precision,
        "device": cell.device,
        "batch_size": cell.batch_size,
        "requests_in_flight": cell.in_flight,
        "parameters": prepared.parameters or None,
        "gmacs": prepared.macs / 1e9 if prepared.macs else None,
        "device_name": info.device_name,
        "driver": info.environment.get("system", {}).get("driver"),
        "backend_version": info.backend_versions.get(cell.backend),
        "vggbench_version": info.vggbench_version,
        "commit": info.environment.get("commit"),
        "started_at": info.started_at,
        "cell_id": cell.id,
    }


def _network(spec: Network) -> dict[str, Any]:
    shared = {
        "variant": spec.variant,
        "input_size": spec.input_size,
        "num_classes": spec.num_classes,
        "spec_hash": spec.digest(),
    }
    if isinstance(spec, NetworkFile):
        return {**shared, "weights": f"file {spec.sha256[:12]}", "reference": "against itself"}
    return {
        **shared,
        "configuration": spec.configuration,
        "head": spec.head,
        "classifier_width": spec.classifier_width,
        "local_response_norm": spec.local_response_norm,
        "outputs": spec.outputs,
        "weights": _weights(spec),
        "reference": "float64 module",
    }


def _weights(spec: ModelSpec) -> str:
    if spec.has_generated_weights:
        return f"{spec.weights} {spec.seed}"
    return f"{IMAGENET} {spec.origin.name}" if spec.origin else f"file {spec.weights_sha256[:12]}"


def _artefact(prepared: Prepared) -> dict[str, Any]:
    if not prepared.artefact:
        return {}
    return {
        "artefact_mib": prepared.artefact_bytes / _MIB,
        "export_s": prepared.artefact.get("seconds"),
        "parity_tolerance": prepared.tolerance,
    }


def _findings(cell: Cell, prepared: Prepared, records: Sequence[RoundRecord], planned: int) -> list[Finding]:
    if cell.unsupported:
        return [Finding("unsupported", cell.unsupported)]
    if prepared.failure is not None:
        return [Finding(prepared.failure.status, f"{prepared.failure.stage}: {prepared.failure.reason}")]
    findings: list[Finding] = []
    for record in records:
        if record.failure is not None:
            where = f"round {record.round + 1} at {record.failure.stage}"
            findings.append(Finding(record.failure.status, f"{where}: {record.failure.reason}"))
        for session in record.sessions:
            findings += _session_findings(cell, prepared, session)
    if len(records) < planned and not any(gave_up(record) for record in records):
        text = f"{len(records)} of {planned} rounds were run; continue with --resume"
        findings.append(Finding("failed", text))
    findings += _warmup_findings(records)
    return findings


def _session_findings(cell: Cell, prepared: Prepared, session: SessionRecord) -> list[Finding]:
    findings = [Finding("parity_failed", reason) for reason in session.parity.reasons]
    if not session.parity.passed and not findings:
        findings.append(Finding("parity_failed", "the outputs were not accepted"))
    hashes = {session.artefact_sha256, session.parity.artefact_sha256, prepared.artefact.get("sha256")}
    if len(hashes) != 1:
        findings.append(Finding("failed", "the files timed, verified and planned are not the same; export again"))
    return findings + judge_evidence(
        session.evidence,
        precision=cell.precision,
        device=cell.device,
        batch_size=cell.batch_size,
        threads=cell.threads,
        macs=prepared.macs,
    )


def _warmups(records: Iterable[RoundRecord]) -> list[str]:
    return [
        block.stop_reason
        for record in records
        for session in record.sessions
        for block in session.blocks
        if block.kind == "warmup"
    ]


def _warmup_findings(records: Sequence[RoundRecord]) -> list[Finding]:
    ends = _warmups(records)
    unsettled = len(ends) - ends.count("steady")
    if 2 * unsettled <= len(ends):
        return []
    text = f"{unsettled} of {len(ends)} warm-ups were not seen to get steady; give --time-budget-s more"
    return [Finding("unsteady", text)]


def _notes(cell: Cell, finished: Sequence[RoundRecord]) -> list[str]:
    """Return what is worth saying of a row without changing its status."""
    timed = any(session.samples("compute") for record in finished for session in record.sessions)
    notes = []
    if again := sum(record.attempt > 1 for record in finished):
        notes.append(f"{again} of {len(finished)} rounds failed before and were measured when tried again")
    if timed and not cell.unsupported and len(finished) < DEFAULT_ROUNDS:
        notes.append(f"no interval: {len(finished)} rounds, {DEFAULT_ROUNDS} are needed")
    return notes


def _proof(records: Sequence[RoundRecord]) -> dict[str, Any]:
    sessions = [session for record in records for session in record.sessions]
    if not sessions:
        return {}
    parities = [session.parity for session in sessions]
    metrics = [parity.metrics for parity in parities if parity.metrics is not None]
    evidence = sessions[-1].evidence
    shares = precision_shares(evidence)
    return {
        "precision_ran": " ".join(f"{name}:{share:.1%}" for name, share in shares.items()) or None,
        "placement": " ".join(f"{name}:{count}" for name, count in evidence.placements.items()) or None,
        "threads": evidence.threads,
        "timing": sessions[-1].timeline,
        "backend_version": sessions[-1].backend_version,
        "artefact_sha256": _only(session.artefact_sha256 for session in sessions),
        "verified_sha256": _only(parity.artefact_sha256 for parity in parities),
        "parity_error": _extreme(max, (metric["signal_error"] for metric in metrics)),
        "parity_cosine": _extreme(min, (metric["cosine"] for metric in metrics)),
        "top1_agreement": _extreme(min, (metric["top1_agreement"] for metric in metrics)),
    }


def _only(values: Iterable[str]) -> str | None:
    different = set(values)
    return different.pop() if len(different) == 1 else None


def _extreme(choose: Callable[[list[float]], float], values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return choose(present) if present else None


def _figures(finished: Sequence[RoundRecord]) -> dict[str, Any]:
    sessions = [session for record in finished for session in record.sessions]
    computes = [session.samples("compute") for session in sessions]
    pooled = [sample / 1e6 for blocks in computes for block in blocks for sample in block]
    medians = [median([median(block) for block in blocks]) / 1e6 for blocks in computes if blocks]
    ends = [median(block) / 1e6 for session in sessions for block in session.samples("end_to_end")]
    rates = [
        block.images * 1e9 / median(block.samples_ns)
        for session in sessions
        for block in session.blocks
        if block.kind == "throughput"
    ]
    low, high = _interval(medians)
    rate_low, rate_high = _interval(rates)
    warmups = _warmups(finished)
    return {
        "latency_ms": _estimate(medians),
        "latency_low_ms": low,
        "latency_high_ms": high,
        "latency_p90_ms": _percentile(pooled, 0.90),
        "latency_p99_ms": _percentile(pooled, 0.99),
        "end_to_end_ms": _estimate(ends),
        "throughput_img_s": _estimate(rates),
        "throughput_low_img_s": rate_low,
        "throughput_high_img_s": rate_high,
        "samples": len(pooled) or None,
        "stop_reason": _stop_reasons(sessions),
        "warmup": f"{warmups.count('steady')}/{len(warmups)}" if warmups else None,
    }


def _stop_reasons(sessions: Iterable[SessionRecord]) -> str | None:
    reasons = {block.stop_reason for session in sessions for block in session.blocks if block.kind == "compute"}
    return " ".join(sorted(reasons)) or None


def _estimate(values: Sequence[float]) -> float | None:
    return hodges_lehmann(values) if values else None


def _interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    return (signed_rank_interval(values) if values else None) or (None, None)


def _percentile(pooled: Sequence[float], probability: float) -> float | None:
    return quantile(pooled, probability) if len(pooled) >= _LEAST_SAMPLES[probability] else None


def _costs(records: Sequence[RoundRecord]) -> dict[str, Any]:
    firsts = [record.sessions[0] for record in records if record.sessions]
    peaks = [record.peak_memory_bytes for record in records if record.peak_memory_bytes is not None]
    return {
        "import_s": median([session.import_s for session in firsts]) if firsts else None,
        "load_s": median([session.load_s for session in firsts]) if firsts else None,
        "first_inference_ms": median([session.first_inference_ns / 1e6 for session in firsts]) if firsts else None,
        "peak_memory_mib": max(peaks) / _MIB if peaks else None,
        **_compilations(firsts),
    }


def _compilations(sessions: Sequence[SessionRecord]) -> dict[str, Any]:
    """A compilation and its cached repetition are two things; the one that costs is reported, if it was seen."""
    compiled = [session for session in sessions if session.compile_s is not None]
    found = [session for session in compiled if session.compile_cached]
    counted = [session.compile_s for session in compiled if not session.compile_cached or len(found) == len(compiled)]
    return {
        "compile_s": median([seconds for seconds in counted if seconds is not None]) if counted else None,
        "compile_cache": f"{len(found)}/{len(compiled)}" if compiled else None,
    }


def _with_speedups(rows: list[Row]) -> list[Row]:
    """Fill `speedup` where the same run has a sound eager fp32 row of the same model, batch and threads."""
    baselines = {
        _comparison_key(row): row.latency_ms
        for row in rows
        if row.backend == "torch"
        and row.precision == "fp32"
        and row.options == "memory_format=contiguous"
        and is_of_what_was_asked(row.status)
    }
    return [_with_speedup(row, baselines.get(_comparison_key(row))) for row in rows]


def _with_speedup(row: Row, baseline_ms: float | None) -> Row:
    if baseline_ms is None or row.latency_ms is None or not is_of_what_was_asked(row.status):
        return row
    return replace(row, speedup=baseline_ms / row.latency_ms)


def _comparison_key(row: Row) -> tuple[Any, ...]:
    return row.spec_hash, row.batch_size, row.device, row.threads
