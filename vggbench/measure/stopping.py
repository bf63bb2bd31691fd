"""When a series of samples is long enough: small objects with `add`, `done` and `why`. Standard library only."""

from __future__ import annotations

import math
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
    """Stops once both a number of samples and a sum of their times are reached.

    It goes on to `wanted_samples`, where these take at most twice that time: more is not spent on what is only wanted.
    """

    _MOST_TIMES = 2  # the least time

    def __init__(self, *, least_s: float, least_samples: int, wanted_samples: int = 0) -> None:
        """Set both floors, and what is wanted beyond; `ValueError` for a series without a sample."""
        if least_samples < 1:
            raise ValueError(f"a series has at least one sample, not {least_samples}")
        self._least_ns = least_s * 1e9
        self._least_samples = least_samples
        self._wanted_samples = wanted_samples
        self._total_ns = 0
        self._count = 0
        self._went_on = False

    def add(self, sample_ns: int) -> None:
        """Count a sample."""
        self._went_on = self._has_least
        self._total_ns += sample_ns
        self._count += 1

    @property
    def done(self) -> bool:
        """Say whether both floors are reached, and what is wanted is there or would take too long."""
        return self._has_least and (self._count >= self._wanted_samples or not self._can_go_on)

    @property
    def why(self) -> str:
        """Return `time` once done, or `samples` where it went on for the samples that are wanted."""
        if not self.done:
            return ""
        return "samples" if self._went_on else "time"

    @property
    def _has_least(self) -> bool:
        return self._count >= self._least_samples and self._total_ns >= self._least_ns

    @property
    def _can_go_on(self) -> bool:
        return self._total_ns * self._wanted_samples <= self._MOST_TIMES * self._least_ns * self._count


class Steady:
    """Ends a warm-up: after a least time, once the newer half of a window is no faster than the older; or at a limit.

    A warm-up gets faster until caches, clocks and lazily built kernels have settled. Noise goes both ways, so the
    test is one-sided: the median of the newer half may not lie below the older's by more than the tolerance. The
    window is the newest half of all samples so far: against a fixed one a slow warm-up would hardly move, and a
    growing one sees a change at the scale of the whole. It is looked at again after every quarter more of samples, and
    has to be steady twice in a row: whoever looks often enough at noise sees it steady once.
    """

    _HALF = 4  # samples a half at least: the smallest count whose median ignores one outlier on either side
    _TOLERANCE = 0.02  # of a half of four: about the noise of its median
    _LEAST_TOLERANCE = 0.005  # however many samples: below it a drift is as small as that of a machine that is warm
    _GROWTH = 1.25  # from one look to the next; each costs a sort between two samples
    _LOOKS = 2

    def __init__(self, *, least_s: float, most_s: float) -> None:
        self._least_ns = least_s * 1e9
        self._most_ns = most_s * 1e9
        self._total_ns = 0
        self._samples: list[int] = []
        self._next_look = 2 * self._HALF
        self._steady_looks = 0

    def add(self, sample_ns: int) -> None:
        """Take note of a sample, and look whether it is time to."""
        self._total_ns += sample_ns
        self._samples.append(sample_ns)
        if len(self._samples) == self._next_look:
            self._steady_looks = self._steady_looks + 1 if self._settled() else 0
            self._next_look = math.ceil(self._GROWTH * self._next_look)

    @property
    def done(self) -> bool:
        """Say whether the warm-up is over."""
        return bool(self.why)

    @property
    def why(self) -> str:
        """Return `steady`, `limit` when it never settled, or `short` when there was no time for a whole window."""
        if self._steady_looks >= self._LOOKS and self._total_ns >= self._least_ns:
            return "steady"
        if self._total_ns < self._most_ns:
            return ""
        return "limit" if len(self._samples) >= 2 * self._HALF else "short"

    def _settled(self) -> bool:
        half = max(self._HALF, len(self._samples) // 4)
        older, newer = median(self._samples[-2 * half : -half]), median(self._samples[-half:])
        # The noise of a median shrinks with the root of the count, and the drift that hides in it.
        tolerance = max(self._TOLERANCE * math.sqrt(self._HALF / half), self._LEAST_TOLERANCE)
        return newer >= older * (1 - tolerance)
