"""The numbers of a row, from the samples of its rounds. No torch, no pandas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggbench.measure.latency import BlockKind
from vggbench.measure.records import RoundRecord, SessionRecord
from vggbench.measure.saturation import TriedRate
from vggbench.stats import (
    effective_sample_size,
    hodges_lehmann,
    median,
    percentiles,
    signed_rank_interval,
    spread,
)

MIB = 2**20
Samples = NDArray[np.float64]


def figures(finished: Sequence[RoundRecord]) -> dict[str, Any]:
    """Return the columns of what was timed, of the rounds that finished."""
    sessions = [session for record in finished for session in record.sessions]
    computes = launches(finished, "compute")
    ends = [launch_figure_ms(blocks) for blocks in launches(finished, "end_to_end")]
    rates = [
        block.images * 1e9 / median(block.samples_ns)
        for session in sessions
        for block in session.blocks
        if block.kind == "throughput"
    ]
    return {
        **_with_interval("latency_ms", [launch_figure_ms(blocks) for blocks in computes]),
        **_with_interval("throughput_img_s", rates),
        "end_to_end_ms": _estimate(ends),
        "stop_reason": _stop_reasons(sessions),
        **_distribution([np.concatenate(blocks) for blocks in computes]),
        **_warmups(finished),
    }


def in_time_order(records: Iterable[RoundRecord]) -> list[RoundRecord]:
    """Return a cell's rounds as they were measured: one that was made again stands where that was."""
    return sorted(records, key=lambda record: (record.started_at, record.round))


def launches(finished: Iterable[RoundRecord], kind: BlockKind) -> list[list[Samples]]:
    """Return the blocks (ns) of that kind of each round that has any, in the order in which rounds were measured.

    A request that was faster than the clock's tick counts as 1 ns: no time is 0.
    """
    found = [
        [
            np.maximum(np.array(block, dtype=np.float64), 1)
            for session in record.sessions
            for block in session.samples(kind)
        ]
        for record in in_time_order(finished)
    ]
    return [blocks for blocks in found if blocks]


def launch_figure_ms(blocks: Sequence[Samples]) -> float:
    """Return a launch's figure: the median of its blocks' medians."""
    return median([median(block) for block in blocks]) / 1e6


def _distribution(samples: Sequence[Samples]) -> dict[str, Any]:
    """Return how a request's latency is distributed, of each round's samples."""
    if not samples:
        return {}
    in_time = np.concatenate(samples) / 1e6
    seen = spread(samples)
    return {
        "between_rounds_percent": None if seen.between is None else 100 * seen.between,
        "within_round_percent": 100 * seen.within,
        **_percentiles(samples),
        "latency_mean_ms": float(in_time.mean()),
        "latency_min_ms": float(in_time.min()),
        "latency_max_ms": float(in_time.max()),
        "samples": in_time.size,
        "samples_per_round": min(part.size for part in samples),
        "effective_samples": effective_sample_size(in_time),
    }


def _percentiles(samples: Sequence[Samples]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    needed = []
    for found in percentiles([part / 1e6 for part in samples]):
        name = f"p{round(100 * found.probability)}"
        values[f"latency_{name}_ms"] = found.estimate
        values[f"latency_{name}_low_ms"] = found.low
        values[f"latency_{name}_high_ms"] = found.high
        if found.samples < found.samples_needed:
            needed.append(f"{name}:{found.samples_needed}")
    return {**values, "samples_needed": " ".join(needed) or None}


def _warmups(finished: Sequence[RoundRecord]) -> dict[str, Any]:
    ends = warmup_ends(finished)
    lengths = [np.concatenate(blocks) for blocks in launches(finished, "warmup")]
    return {
        "warmup": f"{ends.count('steady')}/{len(ends)}" if ends else None,
        "warmup_requests": median([length.size for length in lengths]) if lengths else None,
        "warmup_ms": median([length.sum() / 1e6 for length in lengths]) if lengths else None,
    }


def costs(records: Sequence[RoundRecord], tried: Sequence[TriedRate]) -> dict[str, Any]:
    """Return the columns of what it takes to open a session, of all rounds that got so far.

    Of the sessions that were tried before the rounds, the one with one request in flight compiles what the rounds do.
    """
    firsts = [record.sessions[0] for record in records if record.sessions]
    peaks = [record.peak_memory_bytes for record in records if record.peak_memory_bytes is not None]
    return {
        "import_s": median([session.import_s for session in firsts]) if firsts else None,
        "load_s": median([session.load_s for session in firsts]) if firsts else None,
        "first_inference_ms": median([session.first_inference_ns / 1e6 for session in firsts]) if firsts else None,
        "peak_memory_mib": max(peaks) / MIB if peaks else None,
        **_compilations([*(rate for rate in tried if rate.in_flight == 1), *firsts]),
    }


def _compilations(sessions: Sequence[TriedRate | SessionRecord]) -> dict[str, Any]:
    """A compilation and its cached repetition are two things; the one that costs is reported, if it was seen."""
    compiled = [(session.compile_s, session.compile_cached) for session in sessions if session.compile_s is not None]
    fresh = [seconds for seconds, cached in compiled if not cached]
    return {
        "compile_s": median(fresh or [seconds for seconds, _ in compiled]) if compiled else None,
        "compile_cache": f"{len(compiled) - len(fresh)}/{len(compiled)}" if compiled else None,
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


def _with_interval(name: str, values: Sequence[float]) -> dict[str, float | None]:
    """Return the estimate over rounds under its name, and the ends of its interval under theirs."""
    quantity, _, unit = name.partition("_")
    low, high = (signed_rank_interval(values) if values else None) or (None, None)
    return {name: _estimate(values), f"{quantity}_low_{unit}": low, f"{quantity}_high_{unit}": high}


def _estimate(values: Sequence[float]) -> float | None:
    return hodges_lehmann(values) if values else None
