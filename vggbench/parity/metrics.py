"""How far outputs are from the reference's, in float64, relative to what the inputs change.

Numpy only: workers load this beside any backend.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# One image may depart this much further than all images together: its own norm may be above the others'.
IMAGE_ALLOWANCE = 2.0
# A spread below this share of the norm is float64's own rounding over a long chain, not a signal.
_SMALLEST_SIGNAL = 1e-10
_LARGEST_RANK = 5  # top-5, the other figure of the ImageNet challenge


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Distances between observed and reference outputs.

    Attributes:
        max_abs: largest absolute difference, in logits.
        relative_l2: `||y - ref|| / ||ref||`; it passes networks that ignore their input, so nothing is decided by it.
        signal_error: the deciding one: root mean square over the outputs of `||y - ref||`, relative to `signal(ref)`.
        snr_db: the same as a signal-to-noise ratio in dB; infinite for equal outputs.
        cosine: of the outputs centred over the images; None where one of the two sides does not vary.
        top1_agreement: share of outputs with the reference's largest class; None where all its images share that class.
        top5_agreement: share of outputs with the reference's largest class among their five largest; None as before,
            and for five classes or fewer.
        nonfinite: number of NaN and infinite values; each makes the distances infinite.
        per_image: `||y - ref||` of each output, relative to `signal(ref)`.
    """

    max_abs: float
    relative_l2: float
    signal_error: float
    snr_db: float
    cosine: float | None
    top1_agreement: float | None
    top5_agreement: float | None
    nonfinite: int
    per_image: tuple[float, ...]

    @property
    def passing_tolerance(self) -> float:
        """The smallest tolerance that these outputs would have passed, unless it is above the widest."""
        return max(self.signal_error, max(self.per_image) / IMAGE_ALLOWANCE)


def signal(reference: NDArray[np.float64]) -> float:
    """Return how much the inputs change the outputs `(images, classes)`: the standard deviation of one output, a norm.

    `sqrt(sum ||ref_i - mean||^2 / (N - 1))`, unbiased so that it is steady in the number of images N; 0 for one image.
    """
    if len(reference) < 2:
        return 0.0
    centred = reference - reference.mean(axis=0)
    return float(np.linalg.norm(centred) / math.sqrt(len(reference) - 1))


def amplification(reference: NDArray[np.float64]) -> float:
    """Return the norm of one output over the signal: by how much an error relative to the output grows in our metric.

    Infinite for a reference without a signal.
    """
    spread = signal(reference)
    norm = float(np.linalg.norm(reference)) / math.sqrt(max(len(reference), 1))
    return norm / spread if spread > 0 else math.inf


class RunningAmplification:
    """The amplification of outputs of any shape that come one image at a time, without keeping them."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: NDArray[np.float64] = np.zeros(())
        self._squares = 0.0

    def add(self, output: NDArray[np.float64]) -> None:
        """Take one image's output."""
        self._count += 1
        self._sum = self._sum + output
        self._squares += float(np.vdot(output, output))

    @property
    def value(self) -> float:
        """What `amplification` returns of all outputs together; 1 where no image has any output."""
        if self._squares == 0:
            return 1.0
        centred = self._squares - float(np.vdot(self._sum, self._sum)) / self._count
        spread = centred / max(self._count - 1, 1)
        # Below float64's rounding of the two terms, the difference is no signal.
        return math.sqrt(self._squares / self._count / spread) if spread > 1e-15 * self._squares else math.inf


def has_signal(reference: NDArray[np.float64]) -> bool:
    """Say whether the reference's outputs are finite and depend on the images by more than float64's rounding."""
    return bool(np.isfinite(reference).all()) and amplification(reference) * _SMALLEST_SIGNAL < 1


def compare(
    observed: NDArray[np.floating], reference: NDArray[np.float64], images: NDArray[np.integer] | None = None
) -> Metrics:
    """Measure observed outputs `(rows, classes)` against the reference's `(images, classes)`.

    `images` names the reference row that belongs to each observed row, where the images were tiled or shuffled into
    batches; without it the two correspond row by row. The signal is always the whole reference's, so that it does not
    depend on how often an image was repeated.
    Raises `ValueError` where there is nothing to compare, shapes do not fit, or the reference has no signal.
    """
    outputs = np.asarray(observed, dtype=np.float64)
    expected = np.asarray(reference if images is None else reference[images], dtype=np.float64)
    if outputs.shape != expected.shape or outputs.ndim != 2 or outputs.size == 0:
        raise ValueError(f"outputs of shape {outputs.shape} cannot be compared with {expected.shape}")
    if not has_signal(reference):
        raise ValueError("the reference's images all have the same output, or it is not finite")
    return _measure(outputs, expected, signal(reference), same_top1=bool(np.ptp(np.argmax(reference, axis=1)) == 0))


def _measure(outputs: NDArray[np.float64], expected: NDArray[np.float64], scale: float, *, same_top1: bool) -> Metrics:
    finite = np.isfinite(outputs)
    difference = np.subtract(outputs, expected, out=np.full_like(expected, np.inf), where=finite)
    norms = np.linalg.norm(difference, axis=1)
    error = _root_mean_square(norms) / scale
    return Metrics(
        max_abs=float(np.abs(difference).max()),
        relative_l2=float(_root_mean_square(norms) / _root_mean_square(np.linalg.norm(expected, axis=1))),
        signal_error=error,
        snr_db=-20 * math.log10(error) if error > 0 else math.inf,
        cosine=_centred_cosine(outputs, expected) if has_signal(outputs) and has_signal(expected) else None,
        top1_agreement=None if same_top1 else _agreement(outputs, expected, 1),
        top5_agreement=None if same_top1 or outputs.shape[1] <= _LARGEST_RANK else _agreement(outputs, expected, 5),
        nonfinite=int(np.count_nonzero(~finite)),
        per_image=tuple(float(norm) / scale for norm in norms),
    )


def _root_mean_square(values: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(values)) / math.sqrt(values.size)


def _centred_cosine(outputs: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    left, right = outputs - outputs.mean(axis=0), expected - expected.mean(axis=0)
    return float(np.vdot(left, right)) / (float(np.linalg.norm(left)) * float(np.linalg.norm(right)))


def _agreement(outputs: NDArray[np.float64], expected: NDArray[np.float64], rank: int) -> float:
    """Return the share of rows whose expected class is among the `rank` largest; a class tied with it counts before."""
    rows = np.arange(len(outputs))
    own = outputs[rows, np.argmax(expected, axis=1)]
    before = np.count_nonzero(~(outputs < own[:, None]), axis=1)  # ties and NaN count against the agreement
    return float(np.mean(before <= rank))
