"""The numbers of a row, from the samples of its rounds. No torch, no pandas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vggbench.measure.records import RoundRecord, SessionRecord
from vggbench.stats import hodges_lehmann, median, quantile, signed_rank_interval

MIB = 2**20
# Fewer than ten samples beyond a percentile say little of it.
_LEAST_SAMPLES = {0.90: 100, 0.99: 1000}


def figures(finished: Sequence[RoundRecord]) -> dict[str, Any]:
    """Return the columns of what was timed, of the rounds that finished."""
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
    warmups = warmup_ends(finished)
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


def costs(records: Sequence[RoundRecord]) -> dict[str, Any]:
    """Return the columns of what it takes to open a session, of all rounds that got so far."""
    firsts = [record.sessions[0] for record in records if record.sessions]
    peaks = [record.peak_memory_bytes for record in records if record.peak_memory_bytes is not None]
    return {
        "import_s": median([session.import_s for session in firsts]) if firsts else None,
        "load_s": median([session.load_s for session in firsts]) if firsts else None,
        "first_inference_ms": median([session.first_inference_ns / 1e6 for session in firsts]) if firsts else None,
        "peak_memory_mib": max(peaks) / MIB if peaks else None,
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


def warmup_ends(records: Iterable[RoundRecord]) -> list[str]:
    """Return what ended each warm-up: `steady`, `limit` or `short`."""
    return [
        block.stop_reason
        for record in records
        for session in record.sessions
        for block in session.blocks
        if block.kind == "warmup"
    ]


def _stop_reasons(sessions: Iterable[SessionRecord]) -> str | None:
    reasons = {block.stop_reason for session in sessions for block in session.blocks if block.kind == "compute"}
    return " ".join(sorted(reasons)) or None


def _estimate(values: Sequence[float]) -> float | None:
    return hodges_lehmann(values) if values else None


def _interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    return (signed_rank_interval(values) if values else None) or (None, None)


def _percentile(pooled: Sequence[float], probability: float) -> float | None:
    return quantile(pooled, probability) if len(pooled) >= _LEAST_SAMPLES[probability] else None
