"""The verdict on a session's outputs: everything that must hold before a time is worth anything.

Numpy only: workers load this beside any backend.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggbench.parity.metrics import IMAGE_ALLOWANCE, Metrics, compare, has_signal, signal
from vggbench.parity.tolerance import LARGEST

# Outputs that vary this much less than the reference's ignore their input; a correct backend's vary as the reference's.
_CONSTANT_SHARE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether outputs agree with the reference, and why not.

    Attributes:
        passed: no reason was found against them.
        reasons: one line each, with the figures; empty when passed.
        metrics: None where nothing could be measured (no outputs, a wrong shape, a reference without a signal).
        tolerance: what `metrics.signal_error` was held against.
        outputs_compared: number of images' outputs that were compared, repeated images counted.
    """

    passed: bool
    reasons: tuple[str, ...]
    metrics: Metrics | None
    tolerance: float
    outputs_compared: int


def check(
    observed: NDArray[np.floating],
    reference: NDArray[np.float64],
    tolerance: float,
    images: NDArray[np.integer] | None = None,
) -> Verdict:
    """Judge observed outputs `(rows, classes)` against the reference's `(images, classes)`.

    The error of all outputs together must be within the tolerance, and that of each single one within `IMAGE_ALLOWANCE`
    times it: one wrong image in a large batch hardly moves the sum. Where the tolerance is so wide that another image's
    output would be within it, each output must still be nearer to its own reference than to the others'.
    `images` as in `metrics.compare`.
    Raises `ValueError` for a tolerance that is not positive.
    """
    if not tolerance > 0:
        raise ValueError(f"a tolerance is positive, not {tolerance}")
    rows = len(reference) if images is None else len(images)
    obstacle = _obstacle(observed, reference, (rows, *reference.shape[1:]))
    if obstacle:
        return Verdict(passed=False, reasons=(obstacle,), metrics=None, tolerance=tolerance, outputs_compared=0)
    metrics = compare(observed, reference, images)
    own = np.arange(rows) if images is None else images
    reasons = _reasons(np.asarray(observed, dtype=np.float64), reference, own, metrics, min(tolerance, LARGEST))
    return Verdict(
        passed=not reasons, reasons=reasons, metrics=metrics, tolerance=tolerance, outputs_compared=len(observed)
    )


def _obstacle(
    observed: NDArray[np.floating], reference: NDArray[np.float64], expected_shape: tuple[int, ...]
) -> str | None:
    """Return why nothing can be measured, or None."""
    if reference.ndim != 2 or 0 in expected_shape:
        return f"no outputs were compared: the reference's outputs have the shape {reference.shape}"
    if observed.size == 0:
        return f"no outputs were compared: the backend's outputs have the shape {observed.shape}"
    if observed.shape != expected_shape:
        return f"the outputs have the shape {observed.shape} where {expected_shape} is expected"
    if not np.isfinite(reference).all():
        return "the reference itself has NaN or infinite outputs: the weights overflow"
    if not has_signal(reference):
        return f"the reference's {len(reference)} outputs are all the same: there is no signal to compare with"
    return None


def _reasons(
    observed: NDArray[np.float64],
    reference: NDArray[np.float64],
    own: NDArray[np.integer],
    metrics: Metrics,
    tolerance: float,
) -> tuple[str, ...]:
    if metrics.nonfinite:
        return (f"{metrics.nonfinite} of {observed.size} values are NaN or infinite",)
    found = []
    if signal(observed) < _CONSTANT_SHARE * signal(reference[own]):
        found.append("the output is the same for every image: it ignores its input")
    if metrics.signal_error >= LARGEST:
        found.append(f"the error is {metrics.signal_error:.3g} of the signal: all of it may be lost")
    elif metrics.signal_error > tolerance:
        found.append(f"the error is {metrics.signal_error:.3g} of the signal, the tolerance {tolerance:.3g}")
    single = _single_image(metrics, IMAGE_ALLOWANCE * tolerance) or _exchanged(observed, reference, own, tolerance)
    return tuple(found) or single


def _single_image(metrics: Metrics, limit: float) -> tuple[str, ...]:
    worst = int(np.argmax(metrics.per_image))
    error = metrics.per_image[worst]
    if error <= limit:
        return ()
    return (f"output {worst} alone has an error of {error:.3g} of the signal, the limit for one is {limit:.3g}",)


def _exchanged(
    observed: NDArray[np.float64], reference: NDArray[np.float64], own: NDArray[np.integer], tolerance: float
) -> tuple[str, ...]:
    """Find an output that is nearer to another image's reference than to its own.

    That takes an error of more than half of the distance between the two references, in just that direction. Only pairs
    further apart than the tolerance count, where a correct backend has no such error; rounding may exchange others.
    """
    apart = _distances(reference, reference)[own] > tolerance * signal(reference)
    distances = _distances(observed, reference)
    wrong = apart & (distances < distances[np.arange(len(own)), own][:, None])
    if not wrong.any():
        return ()
    row, image = (int(index) for index in np.argwhere(wrong)[0])
    return (f"output {row} is nearer to the reference of image {image} than to that of its own, image {own[row]}",)


def _distances(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance of each row on the left to each one on the right."""
    return np.stack([np.linalg.norm(left - row, axis=1) for row in right], axis=1)
