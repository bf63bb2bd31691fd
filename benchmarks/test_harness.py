"""What the harness itself costs a request, on a backend that does nothing."""

from __future__ import annotations

import gc
from statistics import median
from typing import Any

import numpy as np
import pytest

from vggbench.backends.null import NullSession
from vggbench.measure.latency import compute_block, end_to_end_block
from vggbench.measure.stopping import Enough

REQUESTS = 2000  # a block: under a millisecond, so that some of many run undisturbed on any machine
BLOCKS = 200
LARGEST_NS = 1000  # a request
RING = [np.zeros((1, 3, 8, 8), dtype=np.float32)] * 8


@pytest.mark.parametrize("measure", [compute_block, end_to_end_block])
def test_block(benchmark: Any, measure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole loop: stage, clock, enqueue, wait, clock, keep the sample, ask the stopping rule."""
    monkeypatch.setattr(gc, "collect", lambda: 0)  # milliseconds, once a block, before its first request
    session = NullSession((1, 3, 8, 8), 5, 1)

    def block() -> Any:
        return measure(session, RING, Enough(least_s=0.0, least_samples=REQUESTS))

    taken = benchmark.pedantic(block, rounds=BLOCKS, warmup_rounds=1)
    # The best of many: whatever else the machine does can only add.
    loop_ns = benchmark.stats.stats.min / REQUESTS * 1e9
    sample_ns = median(taken.samples_ns)
    benchmark.extra_info |= {"loop_ns_a_request": loop_ns, "inside_a_sample_ns": sample_ns}
    print(f"\n{taken.kind}: the loop takes {loop_ns:.0f} ns a request, {sample_ns:.0f} ns of it inside the sample")
    if measure is compute_block:  # the other one's fetch makes an array
        assert 0 < sample_ns < loop_ns < LARGEST_NS
