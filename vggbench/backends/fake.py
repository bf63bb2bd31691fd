"""A scripted backend: latencies, outputs and faults as its options say, on a clock of its own.

For driving the harness (runner, results, reports, gate) without a network and without waiting. numpy only. Never a
stand-in for a backend in a claim about one. Options:

    latency_ms     one latency, or several separated by `/`, taken in turn (default 1)
    fault          what goes wrong, one of `FAULTS` (default none)
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact
from vggbench.backends.base import (
    Available,
    Evidence,
    FileForm,
    LayerEvidence,
    LayerTime,
    Options,
    SessionContext,
    Support,
    TensorSpec,
    Unavailable,
)
from vggbench.errors import RequestError
from vggbench.models.layers import mac_layers
from vggbench.models.spec import ModelSpec

FAULTS = (
    "none",
    "open",  # opening raises
    "run",  # the first request raises
    "wrong",  # outputs of other weights
    "nan",
    "constant",  # the same logits for every image
    "shape",  # one class too few
    "precision",  # every layer ran in bf16, whatever was asked
    "fallback",  # half the work ran on another provider
    "batch",  # ran half the batch
    "stale",  # after some requests the input is no longer taken: outputs are of an earlier one
    "crash",  # the process is killed, as by a kernel that is out of memory
    "segfault",  # the process reads where nothing is
    "garbage",  # a library writes over the answers
    "memory",  # asks for more memory than there is
    "hang",  # the first request never ends
)
_DESCRIPTORS = 16  # a worker has fewer open
_OUTSIDE = 10  # a tenth of a profiled request is spent in no layer
_TAKEN = 40  # requests before a stale session stops looking: more than any verification makes
_GRID = 8  # images are averaged to an 8x8 grid before the product: cheap at any size


def _raise() -> None:
    raise RuntimeError("the script says that running fails")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)


def _read_nothing() -> None:
    ctypes.string_at(0)


def _write_everywhere() -> None:
    """Write to every descriptor beyond the three that everybody has; whichever leads to the parent is among them."""
    for descriptor in range(3, _DESCRIPTORS):
        with suppress(OSError):
            os.write(descriptor, b"loading kernels\n")


def _take_all_memory() -> None:
    np.ones(2**60, dtype=np.int8)


def _hang() -> None:
    while True:
        time.sleep(3600)


_BREAKS = {
    "run": _raise,
    "crash": _die,
    "segfault": _read_nothing,
    "garbage": _write_everywhere,
    "memory": _take_all_memory,
    "hang": _hang,
}


def fake_logits(images: NDArray[np.floating], classes: int, seed: int) -> NDArray[np.float64]:
    """Return the fake's own function of images `(N, 3, S, S)`: block means times a seeded matrix, in float64."""
    count, channels, size, _ = images.shape
    block = max(1, size // _GRID)
    used = images[:, :, : block * (size // block), : block * (size // block)].astype(np.float64)
    means = used.reshape(count, channels, size // block, block, size // block, block).mean(axis=(3, 5))
    flat = means.reshape(count, -1)
    matrix = np.random.default_rng(seed).standard_normal((flat.shape[1], classes))
    product: NDArray[np.float64] = flat @ matrix
    return product


class FakeBackend:
    """The scripted backend."""

    name = "fake"
    artefact_kind = "script"
    option_values: Mapping[str, tuple[str, ...]] = {"latency_ms": (), "fault": FAULTS}

    def availability(self, device: str) -> Available | Unavailable:
        """Be there, on the CPU."""
        if device != "cpu":
            return Unavailable(f"the fake backend has no {device}", "use --device cpu")
        return Available("1")

    def supports(self, precision: str, device: str) -> Support:  # noqa: ARG002 - the same on every device
        """Support fp32 and bf16."""
        return Support(precision in {"fp32", "bf16"}, "" if precision in {"fp32", "bf16"} else f"no {precision}")

    def file_form(self, precision: str, options: Options) -> FileForm:  # noqa: ARG002 - one script for all
        """Take the script, whatever the precision."""
        return FileForm()

    def open(
        self,
        artefact: Artefact,
        *,
        device: str,  # noqa: ARG002 - availability refused all but the CPU
        precision: str,
        batch_size: int,
        threads: int,
        in_flight: int,
        options: Options,
    ) -> FakeSession:
        """Open a scripted session, or fail as the script says."""
        if options.get("fault") == "open":
            raise RuntimeError("the script says that opening fails")
        return FakeSession(ModelSpec.from_json(artefact.spec), precision, batch_size, threads, in_flight, options)


class FakeSession(SessionContext):
    """Requests that take scripted time on the session's own clock."""

    timeline = "scripted"

    def __init__(
        self, spec: ModelSpec, precision: str, batch_size: int, threads: int, in_flight: int, options: Options
    ) -> None:
        self.slots = in_flight
        self.input_spec = TensorSpec("input", "float32", (batch_size, 3, spec.input_size, spec.input_size))
        self.output_spec = TensorSpec("logits", "float32", (batch_size, spec.num_classes))
        self._spec = spec
        self._precision = precision
        self._threads = threads
        self._fault = options.get("fault", "none")
        latencies = _parse_latencies(options.get("latency_ms", "1"))
        self._latencies = [cycle(latencies) for _ in range(in_flight)]
        self._time = threading.local()  # slots run in parallel: each thread's time is the sum of its own requests'
        self._ends_ns = [0] * in_flight
        self._requests = 0
        self._staged: list[NDArray[np.float32] | None] = [None] * in_flight

    def now_ns(self) -> int:
        """Return the session's own time."""
        return getattr(self._time, "now_ns", 0)

    def stage(self, slot: int, batch: NDArray[np.float32]) -> None:
        """Keep the batch."""
        if self._fault != "stale" or self._requests < _TAKEN:
            self._staged[slot] = batch

    def enqueue(self, slot: int) -> None:
        """Start a request that ends after the next scripted latency."""
        if self._fault in _BREAKS:
            _BREAKS[self._fault]()
        self._requests += 1
        self._ends_ns[slot] = self.now_ns() + next(self._latencies[slot])

    def wait(self, slot: int) -> None:
        """Move the clock to the request's end."""
        self._time.now_ns = max(self.now_ns(), self._ends_ns[slot])

    def fetch(self, slot: int) -> NDArray[np.float32]:
        """Return the fake function of the staged batch, damaged as the script says."""
        batch = self._staged[slot]
        assert batch is not None, "stage comes before fetch"
        seed = self._spec.seed + (1 if self._fault == "wrong" else 0)
        logits = fake_logits(batch, self._spec.num_classes, seed).astype(np.float32)
        if self._fault == "nan":
            logits[0, 0] = np.nan
        if self._fault == "constant":
            logits[:] = 1
        return logits[:, :-1] if self._fault == "shape" else logits

    def evidence(self) -> Evidence:
        """Claim what was asked, or what the script's fault says."""
        precision = "bf16" if self._fault == "precision" else self._precision
        batch = self.input_spec.shape[0]
        ran = batch // 2 if self._fault == "batch" else batch
        layers = tuple(
            LayerEvidence(
                name=layer.name,
                operation=layer.operation,
                precision=precision,
                placement="other" if self._fault == "fallback" and index % 2 else "fake",
                macs=layer.macs * ran,
            )
            for index, layer in enumerate(mac_layers(self._spec))
        )
        half = len(layers) // 2
        placements = {"fake": len(layers) - half, "other": half} if self._fault == "fallback" else {"fake": len(layers)}
        device = "fake+other" if self._fault == "fallback" else "cpu"
        return Evidence(
            device=device, threads=self._threads, batch_size=ran, layers=layers, placements=placements, flags={}
        )

    def layer_times(self, run: Callable[[], None], requests: int) -> tuple[LayerTime, ...]:
        """Give nine tenths of each request to the layers, by their MACs."""
        spans = []
        for _ in range(requests):
            start = self.now_ns()
            run()
            spans.append(self.now_ns() - start)
        layers = mac_layers(self._spec, self.input_spec.shape[0])
        total = sum(layer.macs for layer in layers) * _OUTSIDE // (_OUTSIDE - 1)
        return tuple(
            LayerTime(
                name=layer.name,
                operation=layer.operation,
                macs=layer.macs,
                weights=layer.parameters,
                samples_ns=tuple(span * layer.macs // total for span in spans),
            )
            for layer in layers
        )


def _parse_latencies(text: str) -> list[int]:
    try:
        values = [round(float(item) * 1e6) for item in text.split("/")]  # milliseconds to nanoseconds
    except (ValueError, OverflowError):  # not a number, or NaN; infinity
        values = []
    if not values or min(values) <= 0:
        raise RequestError(f"latency_ms of the fake backend is {text!r}; give positive numbers separated by /")
    return values


BACKEND = FakeBackend()
