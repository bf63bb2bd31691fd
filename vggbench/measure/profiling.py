"""Time per layer of a session that is profiled, in a round of its own: never mixed with timed ones.

The standard library and numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

from vggbench.backends.base import LayerTime, Session
from vggbench.measure.clock import clock_of, collector_paused, settle_of
from vggbench.measure.latency import Ring
from vggbench.stats import median

LEAST_REQUESTS = 5  # one that was disturbed is then no more than a fifth of the mean
MOST_REQUESTS = 1000  # a profile of more is hundreds of megabytes, and says nothing more
SECONDS = 3.0  # of requests, where their number is not given: enough for some tens of the slowest that are usual


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What profiled requests took, and each operation in them.

    Attributes:
        samples_ns: a time a request, by the harness's clock, from staged input to logits, with the profiler on.
        layers: every operation, with as many times.
    """

    samples_ns: tuple[int, ...]
    layers: tuple[LayerTime, ...]

    def __post_init__(self) -> None:
        if not self.samples_ns or min(self.samples_ns) <= 0:
            raise ValueError("a profile without requests, or of no time")
        for layer in self.layers:
            if len(layer.samples_ns) != len(self.samples_ns) or min(layer.samples_ns) < 0:
                raise ValueError(f"{layer.name} has not one time for each of {len(self.samples_ns)} requests")


def profile_requests(session: Session, ring: Ring, requests: int) -> Profile:
    """Profile that many requests on inputs of the ring in turn; `start_profiling` came before."""
    clock, settle = clock_of(session), settle_of(session)
    samples: list[int] = []

    def run() -> None:
        session.stage(0, ring[len(samples) % len(ring)])
        settle(0)
        start = clock()
        session.enqueue(0)
        session.wait(0)
        samples.append(clock() - start)

    with collector_paused():
        layers = session.layer_times(run, requests)
    return Profile(samples_ns=tuple(samples[-requests:]), layers=layers)


def enough_requests(samples_ns: list[int]) -> int:
    """Return how many requests fill the seconds of a profile, from the times of such requests."""
    fitting = round(SECONDS * 1e9 / max(1.0, median(samples_ns)))
    return min(MOST_REQUESTS, max(LEAST_REQUESTS, fitting))
