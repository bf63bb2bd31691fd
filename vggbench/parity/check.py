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
_REMEDY = "give --calibration real images, try another --calibration-method, or take a wider precision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether outputs agree with the reference, and why not.

    Attributes:
        passed: no reason was found against them.
        reasons: one line each, with the figures; empty when passed.
        metrics: None where nothing could be measured (no outputs, a wrong shape, a reference without a signal).
        tolerance: what `metrics.signal_error` was held against.
        outputs_compared: number of images' outputs that were compared, repeated images counted.
        quantization_error: of a quantised network, the error against the network as it was before, relative to that
            one's signal; None where nothing was quantised.
    """

    passed: bool
    reasons: tuple[str, ...]
    metrics: Metrics | None
    tolerance: float
    outputs_compared: int
    quantization_error: float | None = None


def check(
    observed: NDArray[np.floating],
    reference: NDArray[np.float64],
    tolerance: float,
    images: NDArray[np.integer] | None = None,
    exact: NDArray[np.float64] | None = None,
) -> Verdict:
    """Judge observed outputs `(rows, classes)` against the reference's `(images, classes)`.

    The error of all outputs together must be within the tolerance, and that of each single one within `IMAGE_ALLOWANCE`
    times it: one wrong image in a large batch hardly moves the sum. Neither may be wider than `LARGEST`, so that a wide
    tolerance lets neither an output without signal pass nor that of another image. `images` as in `metrics.compare`.

    Where the reference is that of a quantised network, `exact` are the outputs of the network before: how far they are
    decides nothing, unless the whole signal is lost.
    Raises `ValueError` for a tolerance that is not positive.
    """
    if not tolerance > 0:
        raise ValueError(f"a tolerance is positive, not {tolerance}")
    rows = len(reference) if images is None else len(images)
    obstacle = _obstacle(observed, reference, (rows, *reference.shape[1:]))
    if obstacle:
        return Verdict(passed=False, reasons=(obstacle,), metrics=None, tolerance=tolerance, outputs_compared=0)
    metrics = compare(observed, reference, images)
    expected = reference if images is None else reference[images]
    reasons = _reasons(np.asarray(observed, dtype=np.float64), expected, metrics, min(tolerance, LARGEST))
    cost = None if exact is None or not has_signal(exact) else compare(observed, exact, images).signal_error
    if cost is not None and cost >= LARGEST:
        reasons += (f"quantisation cost {cost:.3g} of the signal: all of it may be lost; {_REMEDY}",)
    return Verdict(
        passed=not reasons,
        reasons=reasons,
        metrics=metrics,
        tolerance=tolerance,
        outputs_compared=len(observed),
        quantization_error=cost,
    )


def check_each(
    observed: NDArray[np.floating],
    reference: NDArray[np.float64],
    tolerance: float,
    images: NDArray[np.integer],
) -> str:
    """Say what is wrong with a few outputs `(rows, classes)`, each by itself; empty if nothing is.

    `images` names the reference row that belongs to each. Too few for the error of all together: each may have the
    error that `check` allows a single one.
    """
    obstacle = _obstacle(observed, reference, (len(images), *reference.shape[1:]))
    if obstacle:
        return obstacle
    metrics = compare(observed, reference, images)
    if metrics.nonfinite:
        return f"{metrics.nonfinite} of {observed.size} values are NaN or infinite"
    return "; ".join(_single_image(metrics, min(IMAGE_ALLOWANCE * min(tolerance, LARGEST), LARGEST)))


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
    observed: NDArray[np.float64], expected: NDArray[np.float64], metrics: Metrics, tolerance: float
) -> tuple[str, ...]:
    if metrics.nonfinite:
        return (f"{metrics.nonfinite} of {observed.size} values are NaN or infinite",)
    found = []
    if signal(observed) < _CONSTANT_SHARE * signal(expected):
        found.append("the output is the same for every image: it ignores its input")
    if metrics.signal_error >= LARGEST:
        found.append(f"the error is {metrics.signal_error:.3g} of the signal: all of it may be lost")
    elif metrics.signal_error > tolerance:
        found.append(f"the error is {metrics.signal_error:.3g} of the signal, the tolerance {tolerance:.3g}")
    return tuple(found) or _single_image(metrics, min(IMAGE_ALLOWANCE * tolerance, LARGEST))


def _single_image(metrics: Metrics, limit: float) -> tuple[str, ...]:
    worst = int(np.argmax(metrics.per_image))
    error = metrics.per_image[worst]
    if error <= limit:
        return ()
    return (f"output {worst} alone has an error of {error:.3g} of the signal, the limit for one is {limit:.3g}",)
