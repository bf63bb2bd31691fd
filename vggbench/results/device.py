"""The columns of a GPU: the host's time beside the device's, the ways there and back, memory, what holds it back.

No torch, no pandas.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vggbench.measure.latency import BlockKind
from vggbench.measure.records import RoundRecord
from vggbench.measure.validity import Finding
from vggbench.results.figures import MIB, launch_figure_ms, launches
from vggbench.stats import hodges_lehmann, median

GPU_BOUND, LAUNCH_BOUND, COPY_BOUND = "gpu-bound", "launch-bound", "copy-bound"
MOST_EXPOSED = 0.05  # of the requests: in a median as few are not seen


def device_columns(finished: Sequence[RoundRecord], latency_ms: float | None) -> dict[str, Any]:
    """Return the columns; all empty where nothing was measured on a device that works through queues."""
    enqueue_ms, there_ms, back_ms = (
        _enqueue_ms(finished),
        _figure_ms(finished, "copy_in"),
        _figure_ms(finished, "copy_out"),
    )
    return {
        "host_latency_ms": _figure_ms(finished, "host"),
        "enqueue_ms": enqueue_ms,
        "copy_in_ms": there_ms,
        "copy_out_ms": back_ms,
        "held_back_by": _held_back_by(latency_ms, enqueue_ms, there_ms, back_ms),
        "device_memory_mib": _most_mib(record.device_memory_bytes for record in finished),
        "device_allocated_mib": _most_mib(record.device_allocated_bytes for record in finished),
    }


def _figure_ms(finished: Sequence[RoundRecord], kind: BlockKind) -> float | None:
    figures = [launch_figure_ms(blocks) for blocks in launches(finished, kind)]
    return hodges_lehmann(figures) if figures else None


def _enqueue_ms(finished: Iterable[RoundRecord]) -> float | None:
    """Return the estimate over rounds of the median over a round's blocks."""
    rounds = [
        [median(block.enqueue_ns) / 1e6 for session in record.sessions for block in session.blocks if block.enqueue_ns]
        for record in finished
    ]
    figures = [median(blocks) for blocks in rounds if blocks]
    return hodges_lehmann(figures) if figures else None


def _held_back_by(
    latency_ms: float | None, enqueue_ms: float | None, there_ms: float | None, back_ms: float | None
) -> str | None:
    """Name the longest of what a stream of requests consists of, each of which can go on while the others do."""
    if latency_ms is None or enqueue_ms is None or there_ms is None or back_ms is None:
        return None
    parts = {GPU_BOUND: latency_ms, LAUNCH_BOUND: enqueue_ms, COPY_BOUND: there_ms + back_ms}
    return max(parts, key=lambda name: parts[name])


def _most_mib(sizes: Iterable[int | None]) -> float | None:
    known = [size for size in sizes if size is not None]
    return max(known) / MIB if known else None


def exposure_findings(finished: Iterable[RoundRecord]) -> list[Finding]:
    """Say where the device could not be held back until requests were enqueued: it has waited for the host."""
    blocks = [block for record in finished for session in record.sessions for block in session.blocks]
    timed = sum(len(block.enqueue_ns) for block in blocks)
    exposed = sum(block.exposed for block in blocks)
    if not timed or exposed <= MOST_EXPOSED * timed:
        return []
    text = (
        f"{exposed} of {timed} requests had begun before they were enqueued: latency_ms holds some of the host's time"
    )
    return [Finding("unsteady", f"{text}; enqueue by cuda_graph=on, or end other processes")]
