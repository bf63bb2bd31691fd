"""How many requests in flight complete the most images: 1, 2, 4, ... until one more doubling brings nothing.

Done once a cell, before its rounds, in a worker of its own: what is found here decides how the rounds are measured and
is no part of their figures. Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vggbench.measure.client import WorkerClient, WorkerFailure
from vggbench.measure.request import RoundRequest

LEAST_GAIN = 1.02  # of a doubling: less than the noise between two windows is not worth a longer wait in the queue


@dataclass(frozen=True, slots=True)
class TriedRate:
    """What so many requests in flight were seen to complete, in images a second, and what was compiled for it.

    Attributes:
        compile_s, compile_cached: as in a round's `SessionRecord`: this session is the first to compile, if any does.
    """

    in_flight: int
    img_s: float
    compile_s: float | None = None
    compile_cached: bool | None = None


def candidates(most: int, threads: int | None) -> list[int]:
    """Return 1, 2, 4, ... up to `most` and `most` itself, those that share the threads evenly, if there are any."""
    doublings = {1 << power for power in range(most.bit_length())} | {most}
    return sorted(count for count in doublings if count <= most and (threads is None or threads % count == 0))


def saturate(request: RoundRequest) -> list[TriedRate]:
    """Try ever more requests in flight, up to `request.in_flight`; a failure ends it, and the rounds will say why."""
    tried: list[TriedRate] = []
    try:
        with WorkerClient(timeout_s=request.timeout_s + request.timing.longest_s) as worker:
            shared = request.threads if request.device == "cpu" else None  # on a GPU they only enqueue
            for count in candidates(request.in_flight, shared):
                tried.append(_tried(worker, request, count))
                if len(tried) > 1 and tried[-1].img_s < LEAST_GAIN * tried[-2].img_s:
                    break
    except WorkerFailure:
        pass
    return tried


def _tried(worker: WorkerClient, request: RoundRequest, count: int) -> TriedRate:
    opened = worker.call("open", **request.opening(count))
    block = worker.call("block", kind="throughput", seconds=request.timing.throughput_s)
    rate = block["images"] * 1e9 / block["samples_ns"][0]
    return TriedRate(count, rate, opened["compile_s"], opened["compile_cached"])


def most_productive(tried: Sequence[TriedRate], otherwise: int) -> int:
    """Return the fewest requests in flight that no further doubling beat; `otherwise` where none was tried."""
    best = None
    for rate in tried:
        if best is None or rate.img_s >= LEAST_GAIN * best.img_s:
            best = rate
    return best.in_flight if best else otherwise
