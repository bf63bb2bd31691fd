"""How large the error of a correct backend may be, from the precision it computes in and the network's depth.

Imports no library: nothing is measured here. All errors are root mean squares, and relative to the norm of what they
are errors of, until the last step relates them to the signal (`metrics.signal`).

One rounding to nearest. Its error is uniform within one unit roundoff u of the leading bit, and mantissas are
logarithmically distributed, so that a rounding costs `u / sqrt(8 ln 2)`, about 0.42 u.

One layer. Each output is a sum of n products of a weight and an activation. Rounding errors are independent with mean
zero (Higham and Mary, "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput. 41, 2019), and
so are the products, because weights have either sign (their "Sharper probabilistic backward error analysis for basic
linear algebra kernels with random data", SIAM J. Sci. Comput. 42, 2020). Then:

- rounding all weights, or all activations, costs one rounding of the output: n errors add up in quadrature just as
  the n products do. `ROUNDINGS_PER_LAYER` of them are stored in the precision's own type.
- accumulating one after the other rounds each partial sum. That of k products has k / n of the output's square, and
  the sum of these over k is n / 2: accumulation costs `sqrt(n / 2)` roundings of the accumulator. Vector lanes and
  blocks shorten n on most backends, so this is the most that a direct convolution costs.

All layers. Weights of either sign and ReLUs pass an error on as they pass the activations on, so that it stays the
same share of their norm; independent errors of the layers add in quadrature.

Relative to the signal. The amplification is the norm over the signal, of the logits: where the part that all images
share dominates, an error looks small beside the norm and is not. In a trained network the last layers remove that part
again, and an error keeps its share of the signal rather than of the norm: each layer's error is then multiplied by the
amplification at that very layer. Both are computed where the layers' amplifications are known, and the larger counts.

`MARGIN` covers what is left out. Winograd's algorithm for 3x3 convolutions sums over the channels only, n / 9 products,
but its transforms multiply the errors: by 10.8 for F(4x4, 3x3) with the usual points, hence by 10.8 / 3 = 3.6 against
the direct sum of the same layer; F(2x2, 3x3) is as exact as the direct sum (Lavin and Gray, "Fast algorithms for
convolutional neural networks", CVPR 2016). F(6x6, 3x3) has 6.9, which fits only where it sums in blocks, or in some
layers. And the error of one network scatters around its root mean square, more so in a narrow one.

No tolerance is wider than `LARGEST`. Of all outputs that are the same for each of N images the mean of the reference's
is the nearest, and its error is `sqrt((N - 1) / N)` of the signal: 0.935 for 8 images, `sqrt(1 / 2)` for two, the
fewest that have a signal. At or above that an output may have nothing to do with its input; one image's output alone
may then be another's, whose distance is about `sqrt(2)` of the signal, and is held to the same.

int8 and fp8. What a quantised file computes is held against its own graph, whose grids are far coarser than any
arithmetic between them: a correct backend departs where a value near the middle of two numbers of a grid falls to the
other side, by the last bit of a sum or because of what has fallen otherwise before. A shift of d steps before a
rounding lets a share |d| of the values fall one step aside, which is `sqrt(|d|)` steps in the root mean square and more
than d: over a few layers the roundings of two correct backends become as different as those of unrelated numbers,
`sqrt(1/6)` of a step, and no further. `quantized_reference` perturbs every rounding by a number uniform within half a
step, which moves a result by half a step in the root mean square: a little more than that. Its `spread`, the distance
of the perturbed outputs, is hence what a correct backend's error comes up to and does not exceed by more than the
scatter of one network, `SPREAD_MARGIN`. Relative to the signal it is already. No roundoff is added: fp32's is thousands
of times smaller. Seen, error over spread, in 16 untrained networks of 5 to 16 layers: int8 in the layout that a backend
fuses at most 0.51 in ONNX Runtime and 0.44 in OpenVINO; TensorRT's layout, which ONNX Runtime runs in fp32 with
quantisers moved past pools, 1.03; vgg16_bn at 224 pixels 0.28 and 0.40.

Seen on a CPU, tolerance over error, with PyTorch, ONNX Runtime and OpenVINO: untrained networks of 5 to 16 layers, fp32
6 to 40, bf16 5 to 12; vgg16_bn at 224 pixels, fp32 9 to 27, bf16 5 to 7. Small trained networks with batch norm, on
images unlike those they learned: fp32 5, bf16 2.4 at the least with the layers' amplifications, and bf16 0.8 with the
logits' alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vggbench.errors import RequestError


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Unit roundoffs: of the type that weights and activations are rounded to, and of the accumulator."""

    storage: float
    accumulation: float


_FP32, _FP16, _BF16 = 2.0**-24, 2.0**-11, 2.0**-8  # half a unit in the last place: 24, 11 and 8 bits of significand
# Accelerators sum products of short types in fp32; tf32 has fp16's significand and is stored as fp32.
ARITHMETIC: Mapping[str, Arithmetic] = {
    "fp32": Arithmetic(storage=_FP32, accumulation=_FP32),
    "tf32": Arithmetic(storage=_FP16, accumulation=_FP32),
    "fp16": Arithmetic(storage=_FP16, accumulation=_FP32),
    "bf16": Arithmetic(storage=_BF16, accumulation=_FP32),
}

ROUNDING = 1 / math.sqrt(8 * math.log(2))  # root mean square of one rounding, in unit roundoffs
ROUNDINGS_PER_LAYER = 4  # weights, output, and where batch norm is not fused its parameters and its output
MARGIN = 4.0  # Winograd's F(4x4, 3x3) in every layer costs 3.6
SPREAD_MARGIN = 1.5  # for the scatter of one draw of roundings about another
LEAST_SPREAD = 2.0**-20  # no tolerance is 0: roundings of fp32 outputs
LARGEST = math.sqrt(1 / 2)  # the error of the best output that ignores its input, over any number of images


def tolerance(precision: str, reduction_lengths: Sequence[int], amplification: float | Sequence[float]) -> float:
    """Return the largest `Metrics.signal_error` that a correct backend has in a precision.

    `reduction_lengths` are the numbers of products per output of the convolutions and linear layers, in order.
    `amplification` is `metrics.amplification` of the logits, or those of each of these layers' outputs (before batch
    norm and ReLU), the last one being the logits'.
    Raises `RequestError` for a precision without a derivation, `ValueError` where the numbers make no network.
    """
    shares = _layer_errors(precision, reduction_lengths)
    gains = [amplification] * len(shares) if isinstance(amplification, int | float) else list(amplification)
    if len(gains) != len(shares) or not all(gain > 0 for gain in gains):
        raise ValueError(f"amplifications are positive, one a layer, not {gains} for {len(shares)} layers")
    kept_share_of_norm = gains[-1] * math.hypot(*shares)
    kept_share_of_signal = math.hypot(*(gain * share for gain, share in zip(gains, shares, strict=True)))
    return min(MARGIN * max(kept_share_of_norm, kept_share_of_signal), LARGEST)


def spread_tolerance(spread: float) -> float:
    """Return the largest `Metrics.signal_error` that a correct backend has on a quantised file of this spread."""
    if not spread >= 0:
        raise ValueError(f"a spread is not below 0, as {spread} is")
    return min(max(SPREAD_MARGIN * spread, LEAST_SPREAD), LARGEST)


def expected_error(precision: str, reduction_lengths: Sequence[int]) -> float:
    """Return the root mean square error of the output, relative to its norm, under the model of this module."""
    return math.hypot(*_layer_errors(precision, reduction_lengths))


def _layer_errors(precision: str, reduction_lengths: Sequence[int]) -> list[float]:
    """Return each layer's own error, relative to the norm of its output."""
    if precision not in ARITHMETIC:
        raise RequestError(f"no tolerance is derived for precision {precision!r}; there are {', '.join(ARITHMETIC)}")
    if not reduction_lengths or min(reduction_lengths) < 1:
        raise ValueError(f"layers sum at least one product each, not {list(reduction_lengths)}")
    units = ARITHMETIC[precision]
    stored = ROUNDINGS_PER_LAYER * units.storage**2
    return [ROUNDING * math.sqrt(stored + length / 2 * units.accumulation**2) for length in reduction_lengths]
