"""When a series of samples is long enough: small objects with `add`, `done` and `why`. Standard library only."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Protocol


class StoppingRule(Protocol):
    """Told every sample; says when to stop and why it did."""

    def add(self, sample_ns: int) -> None:
        """Take note of a sample."""
        ...

    @property
    def done(self) -> bool:
        """Say whether the series is long enough."""
        ...

    @property
    def why(self) -> str:
        """Return a word for what ended it; empty while not done."""
        ...


class Enough:
    """Stops once both a number of samples and a sum of their times are reached."""

    def __init__(self, *, least_s: float, least_samples: int) -> None:
        """Set both floors; `ValueError` for a series without a sample."""
        if least_samples < 1:
            raise ValueError(f"a series has at least one sample, not {least_samples}")
        self._least_ns = least_s * 1e9
        self._least_samples = least_samples
        self._total_ns = 0
        self._count = 0

    def add(self, sample_ns: int) -> None:
        """Count a sample."""
        self._total_ns += sample_ns
        self._count += 1

    @property
    def done(self) -> bool:
        """Say whether both floors are reached."""
        return self._count >= self._least_samples and self._total_ns >= self._least_ns

    @property
    def why(self) -> str:
        """Return `time` once done."""
        return "time" if self.done else ""


class Steady:
    """Ends a warm-up: after a least time, once the newer half of a window is no faster than the older; or at a limit.

    A warm-up gets faster until caches, clocks and lazily built kernels have settled. Noise goes both ways, so the
    test is one-sided: the median of the newer half may not lie below the older's by more than the tolerance.
    """

    _HALF = 4  # samples a half: the smallest count whose median ignores one outlier on either side
    _TOLERANCE = 0.02  # a remaining drift below 2 % over four samples is within the noise of one sample

    def __init__(self, *, least_s: float, most_s: float) -> None:
        self._least_ns = least_s * 1e9
        self._most_ns = most_s * 1e9
        self._total_ns = 0
        self._window: deque[int] = deque(maxlen=2 * self._HALF)

    def add(self, sample_ns: int) -> None:
        """Move the window on."""
        self._total_ns += sample_ns
        self._window.append(sample_ns)

    @property
    def done(self) -> bool:
        """Say whether the warm-up is over."""
        return bool(self.why)

    @property
    def why(self) -> str:
        """Return `steady`, `limit` when it never settled, or `short` when there was no time for a whole window."""
        full = len(self._window) == 2 * self._HALF
        if full and self._total_ns >= self._least_ns and self._settled():
            return "steady"
        if self._total_ns < self._most_ns:
            return ""
        return "limit" if full else "short"

    def _settled(self) -> bool:
        samples = list(self._window)
        older, newer = median(samples[: self._HALF]), median(samples[self._HALF :])
        return newer >= older * (1 - self._TOLERANCE)
