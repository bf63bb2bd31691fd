"""Sessions whose requests take the time that a script says, on a clock that only they move."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np

from vggbench.backends.base import Evidence, SessionContext, TensorSpec

RING = [np.full((2, 3, 4, 4), value, dtype=np.float32) for value in range(3)]


def recorded_rounds() -> list[list[list[int]]]:
    """Return rounds of blocks of 20 samples (ns): every fifth round, four blocks each, of one recording.

    ONNX Runtime's CPU provider, one thread, batch 1, a narrow VGG-11, a fresh process a round, on a shared two-core
    virtual machine that had other work.
    """
    return json.loads(Path(__file__).with_name("recorded_rounds.json").read_text())


class ReplaySession(SessionContext):
    """Slot `s` takes `scripts[s]` in turn (ns); staging and fetching take what they are told; every call is noted."""

    timeline = "scripted"

    def __init__(self, *scripts: Sequence[int], stage_ns: int = 0, fetch_ns: int = 0) -> None:
        self.slots = len(scripts)
        self.input_spec = TensorSpec("input", "float32", RING[0].shape)
        self.output_spec = TensorSpec("logits", "float32", (2, 5))
        self.calls: list[tuple[str, int]] = []
        self.staged: list[list[float]] = [[] for _ in scripts]
        self._scripts = [cycle(script) for script in scripts]
        self._stage_ns, self._fetch_ns = stage_ns, fetch_ns
        self._time = threading.local()

    def now_ns(self) -> int:
        return getattr(self._time, "now", 0)

    def _pass(self, nanoseconds: int) -> None:
        self._time.now = self.now_ns() + nanoseconds

    def stage(self, slot: int, batch: np.ndarray) -> None:
        self.calls.append(("stage", slot))
        self.staged[slot].append(float(batch.flat[0]))
        self._pass(self._stage_ns)

    def enqueue(self, slot: int) -> None:
        self.calls.append(("enqueue", slot))

    def wait(self, slot: int) -> None:
        self.calls.append(("wait", slot))
        self._pass(next(self._scripts[slot]))

    def fetch(self, slot: int) -> np.ndarray:
        self.calls.append(("fetch", slot))
        self._pass(self._fetch_ns)
        return np.zeros((2, 5), dtype=np.float32)

    def evidence(self) -> Evidence:
        return Evidence(device="cpu", threads=1, batch_size=2, layers=(), placements={})
