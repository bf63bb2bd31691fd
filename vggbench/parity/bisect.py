"""Which layer of a chain goes wrong: a search over prefixes, each held against the reference's prefix.

Numpy only; how a prefix is run and what it should compute is the caller's.

Why halving finds it. Before the fault every prefix has rounding errors alone, and passes. The fault's error is some
share of the norm (or of the signal) of the layer it sits in, and as `tolerance` has it, it keeps that share on its
way, multiplied by the same amplifications as the tolerance. The tolerance meanwhile grows with the square root of the
layers that are added. Held against it, an error is therefore largest where it arises and only falls: if the whole
chain fails, so does every prefix from the fault on, and halving ends between the last prefix that passes and the first
that does not.

Where that is not so. A ReLU, a pool or a batch norm may damp an error below the tolerance and later layers raise it
again, or it may hide in a few units first. Halving then still ends at a pair of which one passes and the next does
not, but the fault may lie before it. So the answer is not believed: the layer that was found is held against what it
was handed. The reference continues, in float64, from what the backend itself made of the prefix before, and what is
left is that layer's own error, with whatever went wrong earlier in both sides. If that is what its precision allows,
the fault lies before, and the layers are asked one by one, backwards, until one has an error of its own. An error that
is damped below the tolerance and stays there fails no cell: nobody asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggbench.parity.metrics import amplification, signal
from vggbench.parity.tolerance import spread_tolerance, tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """One prefix: what it was held against, and what came of it.

    Attributes:
        depth: layers in it that can be told apart.
        layer, operation: the last of them.
        error: of the prefix's output, relative to the signal; None where there was none, or no number.
        tolerance: what its precision allows a network that ends there.
        passed: the prefix was opened, ran, and agrees.
        reason: why not; empty if it passed.
        own_error: of the last layer alone, given what the backend handed it; None where nobody asked.
        own_tolerance: what its precision allows that layer.
    """

    depth: int
    layer: str
    operation: str
    error: float | None
    tolerance: float
    passed: bool
    reason: str = ""
    own_error: float | None = None
    own_tolerance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bisection:
    """What a search found.

    Attributes:
        layer: the first that departs; empty if none was found.
        remark: the finding in words, or why there is none.
        depths: the prefixes that were run, by depth, and at the end the whole.
        builds: how many prefixes were opened in a backend.
    """

    layer: str
    remark: str
    depths: tuple[Depth, ...] = ()
    builds: int = 0


def first_departure(count: int, passes: Callable[[int], bool], departs: Callable[[int], bool]) -> int | None:
    """Return the depth, from 1 to `count`, of the first layer that departs; None if it is none of them alone.

    `passes` says whether the prefix of that depth agrees with the reference, `departs` whether its last layer has an
    error of its own. The whole, which is known to fail, is not run unless it is the answer; `log2(count)` prefixes are,
    and where the whole passes as a prefix, the fault is in no layer.
    """
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    if high == count and passes(count):
        return None
    return next((depth for depth in range(high, 0, -1) if departs(depth)), None)


@dataclass(frozen=True, slots=True)
class Expected:
    """What the reference makes of a prefix.

    Attributes:
        outputs: float64 `(images, values)`.
        shape: of one image's output before it was flattened.
        lengths: reduction length of each convolution and product in the prefix.
        amplifications: of their outputs.
        spread: of a quantised graph's outputs when its roundings are perturbed; None where nothing is quantised.
    """

    outputs: NDArray[np.float64]
    shape: tuple[int, ...]
    lengths: Sequence[int]
    amplifications: Sequence[float]
    spread: float | None = None

    def tolerance(self, precision: str) -> float:
        """Return the largest error of a correct backend that ends here."""
        if self.spread is not None:
            return spread_tolerance(self.spread)
        lengths, gains = self._layers()
        return tolerance(precision, lengths, gains)

    def own_tolerance(self, precision: str) -> float:
        """Return the largest error of the last layer alone.

        It counts twice: what a prefix ends with is rounded, and on its way to a further layer it may not be. In a
        quantised graph all roundings count: those before may have fallen otherwise than in what was handed.
        """
        if self.spread is not None:
            return spread_tolerance(self.spread)
        lengths, gains = self._layers()
        return tolerance(precision, lengths[-1:] * 2, gains[-1:] * 2)

    def _layers(self) -> tuple[list[int], list[float]]:
        """Return lengths and amplifications as `tolerance` takes them: the last one is not below the output's."""
        whole = amplification(self.outputs)
        if not len(self.lengths):
            return [1], [whole]
        return list(self.lengths), [*self.amplifications[:-1], max(self.amplifications[-1], whole)]

    def own_error(self, observed: NDArray[np.floating], continued: NDArray[np.float64]) -> float:
        """Return the distance of outputs from what the reference makes of the prefix before, relative to the signal."""
        distance = float(np.linalg.norm(observed - continued)) / math.sqrt(len(self.outputs))
        spread = signal(self.outputs)
        return distance / spread if math.isfinite(distance) and spread > 0 else math.inf
