"""Streams, events and pinned memory without a GPU: they drive the harness, and support no claim about a GPU.

Tensors "on the device" are the CPU's, and torch computes on them while the host enqueues. What the host spends inside
`torch.cuda.stream` counts as work that the device begins when it is through with what came before: so behind a backlog,
as on a GPU, two events lie as far apart as the work between them is long.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CYCLES_PER_NS = 2  # of the stand-in's multiprocessors
ALLOCATED_BYTES = 3 << 20  # what its allocator says


class Host:
    """The host's clock, and how it waits; a scripted one moves only when it is told."""

    def __init__(self, *, scripted: bool = False) -> None:
        self._scripted = scripted
        self._now_ns = 0

    def now_ns(self) -> int:
        return self._now_ns if self._scripted else time.perf_counter_ns()

    def pass_ns(self, nanoseconds: int) -> None:
        if self._scripted:
            self._now_ns += max(0, nanoseconds)
        elif nanoseconds > 0:
            time.sleep(nanoseconds / 1e9)


class Stream:
    """A stream that is through with its work at `busy_until_ns` of the host's clock."""

    def __init__(self, host: Host, number: int) -> None:
        self._host = host
        self.busy_until_ns = 0
        self.cuda_stream = 1000 + number

    def work(self, nanoseconds: int, since_ns: int | None = None) -> None:
        """Add work, which the host does not wait for."""
        begin = self._host.now_ns() if since_ns is None else since_ns
        self.busy_until_ns = max(self.busy_until_ns, begin) + nanoseconds

    def synchronize(self) -> None:
        self._host.pass_ns(self.busy_until_ns - self._host.now_ns())


class Event:
    """A moment of a stream."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.reached_ns: int | None = None

    def record(self, stream: Stream) -> None:
        self.reached_ns = max(stream.busy_until_ns, self._host.now_ns())

    def query(self) -> bool:
        return self.reached_ns is None or self._host.now_ns() >= self.reached_ns

    def elapsed_time(self, later: Event) -> float:
        assert self.reached_ns is not None
        assert later.reached_ns is not None
        assert later.query(), "not reached yet: the stream was not waited for"
        return (later.reached_ns - self.reached_ns) / 1e6


class CudaStandIn:
    """What a test may look at: the host, the streams that were made, and how long each backlog was."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.streams: list[Stream] = []
        self.backlogs_ns: list[int] = []
        self._current: list[Stream] = []  # innermost last

    def make_stream(self, *_arguments: Any, **_options: Any) -> Stream:
        self.streams.append(Stream(self.host, len(self.streams)))
        return self.streams[-1]

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        """Work on a stream: what the host spends here is the device's work."""
        start, backlogs = self.host.now_ns(), len(self.backlogs_ns)
        self._current.append(stream)
        try:
            yield
        finally:
            self._current.pop()
            if not self._current and len(self.backlogs_ns) == backlogs:
                stream.work(self.host.now_ns() - start, since_ns=start)

    def sleep(self, cycles: int) -> None:
        self.backlogs_ns.append(cycles // CYCLES_PER_NS)
        self._current[-1].work(self.backlogs_ns[-1])


def install(patch: pytest.MonkeyPatch, *, scripted: bool = False) -> CudaStandIn:
    """Put the stand-in where torch has its calls of CUDA; one that is not here still asks for a GPU."""
    import torch

    machine = CudaStandIn(Host(scripted=scripted))
    calls: dict[str, Any] = {
        "Stream": machine.make_stream,
        "Event": lambda **_options: Event(machine.host),
        "stream": machine.stream,
        "_sleep": machine.sleep,
        "reset_peak_memory_stats": lambda _device: None,
        "max_memory_allocated": lambda _device: ALLOCATED_BYTES,
    }
    for name, call in calls.items():
        patch.setattr(torch.cuda, name, call)
    patch.setattr("vggbench.backends.cuda_slots.torch_device", lambda _device: torch.device("cpu"))
    patch.setattr("vggbench.backends.cuda_slots.pinned_tensor", torch.zeros)
    return machine
