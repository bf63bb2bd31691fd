"""The derivation of the tolerance: each step against simulated arithmetic, the whole against PyTorch's own error."""

from __future__ import annotations

import copy
import math
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from vggbench.data.synthetic import images
from vggbench.errors import RequestError
from vggbench.models.layers import mac_layers
from vggbench.models.spec import make_spec
from vggbench.models.weights import build_module
from vggbench.parity.metrics import amplification, compare
from vggbench.parity.tolerance import (
    ARITHMETIC,
    LARGEST,
    MARGIN,
    ROUNDING,
    ROUNDINGS_PER_LAYER,
    expected_error,
    tolerance,
)

LENGTHS = st.lists(st.integers(1, 30_000), min_size=1, max_size=24)
PRECISIONS = st.sampled_from(sorted(ARITHMETIC))
FP32 = ARITHMETIC["fp32"].storage


# Each step against simulated arithmetic.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rounding_constant_is_that_of_logarithmic_mantissas(dtype: torch.dtype) -> None:
    values = torch.from_numpy(2.0 ** np.random.default_rng(0).uniform(-4, 4, 400_000))
    errors = (values.to(dtype).double() - values) / values
    unit_roundoff = torch.finfo(dtype).eps / 2
    assert float(errors.square().mean().sqrt()) == pytest.approx(ROUNDING * unit_roundoff, rel=0.02)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)]
)
def test_table_has_the_types_own_roundoffs(precision: str, dtype: torch.dtype) -> None:
    assert ARITHMETIC[precision].storage == torch.finfo(dtype).eps / 2


def products(length: int, outputs: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Weights of either sign and what a ReLU leaves."""
    generator = np.random.default_rng(length)
    weights = generator.normal(size=(outputs, length)).astype(np.float32)
    return weights, np.maximum(generator.normal(size=(outputs, length)), 0).astype(np.float32)


def relative(observed: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(observed - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize("length", [27, 576, 4608])
def test_accumulation_one_after_the_other_costs_the_root_of_half_the_length(length: int) -> None:
    weights, activations = products(length, outputs=2000)
    exact = np.einsum("oi,oi->o", weights, activations, dtype=np.float64)
    total = np.zeros(len(weights), dtype=np.float32)
    for index in range(length):
        total += weights[:, index] * activations[:, index]
    unfused = math.sqrt(length / 2 + 1)  # the products are rounded, too
    # Mantissas of one sum's partial sums are not logarithmic, and half the products are zero: 0.7 to 1 was seen.
    assert 0.6 < relative(total, exact) / (ROUNDING * FP32 * unfused) < 1.1


def test_rounded_weights_cost_one_rounding_of_the_output() -> None:
    weights, activations = products(1000)
    exact = np.einsum("oi,oi->o", weights, activations, dtype=np.float64)
    rounded = torch.from_numpy(weights).bfloat16().double().numpy()
    observed = np.einsum("oi,oi->o", rounded, activations, dtype=np.float64)
    assert relative(observed, exact) == pytest.approx(ROUNDING * ARITHMETIC["bf16"].storage, rel=0.15)


# Winograd's algorithm: the factors that the module quotes.

POINTS = {2: (0, 1, -1), 4: (0, 1, -1, 2, -2), 6: (0, 1, -1, 2, -2, Fraction(1, 2), Fraction(-1, 2))}
TAPS = 3


def polynomial(roots: list[Fraction]) -> list[Fraction]:
    """Return the coefficients of the polynomial with these roots, lowest first."""
    result = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *result], [-root * value for value in result] + [Fraction(0)]
        result = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return result


@cache
def winograd(outputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Toom and Cook's matrices A', G, B' of F(outputs, 3), with the point at infinity last."""
    points = [Fraction(point) for point in POINTS[outputs]]
    others = [[b for b in points if b != a] for a in points]
    output = [[point**power for point in points] + [Fraction(power == outputs - 1)] for power in range(outputs)]
    kernel = [
        [point**power / math.prod(point - b for b in rest) for power in range(TAPS)]
        for point, rest in zip(points, others, strict=True)
    ] + [[Fraction(0)] * (TAPS - 1) + [Fraction(1)]]
    data = [[*polynomial(rest), Fraction(0)] for rest in others] + [polynomial(points)]
    matrices = [np.array(matrix, dtype=np.float64) for matrix in (output, kernel, data)]
    return matrices[0], matrices[1], matrices[2]


@pytest.mark.parametrize(("outputs", "factor"), [(2, 1.67), (4, 10.8), (6, 20.6)])
def test_winograd_multiplies_the_errors_of_its_products(outputs: int, factor: float) -> None:
    """In one dimension errors of the products grow by the square root of this; 3x3 has two."""
    output, kernel, data = winograd(outputs)
    energy = (kernel**2).sum(axis=1) * (data**2).sum(axis=1)
    assert ((output**2) @ energy).mean() / TAPS == pytest.approx(factor, rel=0.01)


def convolve_winograd(weights: np.ndarray, tiles: np.ndarray, outputs: int) -> np.ndarray:
    """Convolve `(tiles, channels, side, side)` with `(kernels, channels, 3, 3)`, summing channels in order, in fp32."""
    output, kernel, data = (matrix.astype(np.float32) for matrix in winograd(outputs))
    left = np.einsum("ia,kcab,jb->ijkc", kernel, weights, kernel, optimize=True)
    right = np.einsum("ia,tcab,jb->ijct", data, tiles, data, optimize=True)
    total = np.zeros((*left.shape[:3], len(tiles)), dtype=np.float32)
    for channel in range(weights.shape[1]):
        total += left[:, :, :, channel, None] * right[:, :, channel, None, :]
    return np.einsum("ai,ijkt,bj->tkab", output, total, output, optimize=True)


@pytest.mark.parametrize(("outputs", "most"), [(2, 1.0), (4, MARGIN)])
def test_margin_covers_winograd_in_every_layer(outputs: int, most: float) -> None:
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(8, 128, TAPS, TAPS)).astype(np.float32)
    tiles = np.maximum(generator.normal(size=(64, 128, outputs + 2, outputs + 2)), 0).astype(np.float32)
    exact = nn.functional.conv2d(torch.from_numpy(tiles).double(), torch.from_numpy(weights).double()).numpy()
    error = relative(convolve_winograd(weights, tiles, outputs), exact) / expected_error("fp32", [128 * TAPS**2])
    assert most / 3 < error < most


# The whole against PyTorch in that precision.

SMALL = {"input_size": 32, "num_classes": 10, "classifier_width": 64}
NETWORKS = {
    "plain": make_spec(config="8,M,16,M,16,16,M,32,32,M", **SMALL),
    "plain, deep": make_spec(config="8,8,M,16,16,M,32,32,32,M,64,64,64,M", **SMALL),
    "batch norm": make_spec(config="8,M,16,M,16,16,M,32,32,M", batch_norm=True, **SMALL),
    "batch norm, 1x1": make_spec(config="8,8,M,16,16@1,M,32,32,32@1,M", batch_norm=True, **SMALL),
    "batch norm, wide": make_spec(config="32,32,M,64,64,M,128,128,128,M,128,128,M", batch_norm=True, **SMALL),
    "published initialisation": make_spec(config="16,M,32,M,64,64,M", batch_norm=True, weights="init", **SMALL),
}


class Trial:
    """A network, its images, its float64 outputs, and the amplification at each convolution and linear layer."""

    def __init__(self, name: str, seed: int = 0) -> None:
        spec = NETWORKS[name]
        self.network = build_module(spec).requires_grad_(False)
        self.inputs = torch.from_numpy(images(8, spec.input_size, seed))
        self.lengths = [layer.reduction_length for layer in mac_layers(spec)]
        self.by_layer: list[float] = []
        exact = copy.deepcopy(self.network).double()
        for layer in exact.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(self._record)
        self.reference = exact(self.inputs.double()).numpy()
        self.amplification = amplification(self.reference)

    def _record(self, layer: nn.Module, inputs: object, output: Tensor) -> None:
        self.by_layer.append(amplification(output.flatten(1).numpy()))

    def margin(self, observed: Tensor, precision: str) -> float:
        """Return how many times the error fits into the tolerance."""
        found = compare(observed.float().numpy(), self.reference)
        return tolerance(precision, self.lengths, self.amplification) / found.passing_tolerance


trial = cache(Trial)


def cast(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    return copy.deepcopy(network).to(dtype)


def cast_products(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast convolutions and linear layers, leaving batch norm's statistics as they are."""
    twin = copy.deepcopy(network)
    for layer in twin.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.to(dtype)
    return twin


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", NETWORKS)
def test_fp32_is_within_the_tolerance_and_near(name: str, seed: int) -> None:
    subject = trial(name, seed)
    last = subject.inputs.to(memory_format=torch.channels_last)
    for observed in (subject.network(subject.inputs), copy.deepcopy(subject.network)(last)):
        assert 2 < subject.margin(observed, "fp32") < 60


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_short_types_are_within_the_tolerance_and_near(
    name: str, seed: int, precision: str, dtype: torch.dtype
) -> None:
    subject = trial(name, seed)
    for module in (cast(subject.network, dtype), cast_products(subject.network, dtype)):
        assert 2 < subject.margin(module(subject.inputs.to(dtype)), precision) < 20


def rounded(values: Tensor, bits: int) -> Tensor:
    mantissa, exponent = torch.frexp(values)
    return torch.ldexp(torch.round(mantissa * 2**bits) / 2**bits, exponent)


@pytest.mark.parametrize("name", NETWORKS)
def test_tf32_is_within_the_tolerance_and_near(name: str) -> None:
    """Operands rounded to tf32's 11 bits before every product, as tensor cores take them."""
    subject = trial(name)
    network = copy.deepcopy(subject.network)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight.data = rounded(layer.weight, 11)
            layer.register_forward_pre_hook(lambda module, inputs: rounded(inputs[0], 11))
    assert 2 < subject.margin(network(subject.inputs), "tf32") < 30


@pytest.mark.parametrize("name", NETWORKS)
def test_bf16_is_told_apart_from_fp32(name: str) -> None:
    subject = trial(name)
    observed = cast_products(subject.network, torch.bfloat16)(subject.inputs.bfloat16())
    assert subject.margin(observed, "fp32") < 0.01


@pytest.mark.parametrize("name", NETWORKS)
def test_amplification_of_untrained_networks_is_largest_at_the_logits(name: str) -> None:
    subject = trial(name)
    assert len(subject.by_layer) == len(subject.lengths)
    assert subject.by_layer[-1] == pytest.approx(subject.amplification, rel=1e-9)
    alone = tolerance("bf16", subject.lengths, subject.amplification)
    assert tolerance("bf16", subject.lengths, subject.by_layer) == pytest.approx(alone, rel=0.1)


# Properties.


@given(PRECISIONS, LENGTHS, st.floats(1, 1e3))
def test_tolerance_is_positive_and_below_the_signal(precision: str, lengths: list[int], gain: float) -> None:
    assert 0 < tolerance(precision, lengths, gain) <= LARGEST


@given(PRECISIONS, LENGTHS, st.integers(1, 30_000), st.floats(1, 1e3))
def test_a_deeper_network_or_a_larger_amplification_never_narrows_it(
    precision: str, lengths: list[int], length: int, gain: float
) -> None:
    found = tolerance(precision, lengths, gain)
    assert tolerance(precision, [*lengths, length], gain) >= found
    assert tolerance(precision, lengths, 2 * gain) >= found


@given(LENGTHS)
def test_storage_decides_in_short_types(lengths: list[int]) -> None:
    for precision in ("tf32", "fp16", "bf16"):
        stored = ROUNDING * ARITHMETIC[precision].storage * math.sqrt(ROUNDINGS_PER_LAYER * len(lengths))
        assert expected_error(precision, lengths) == pytest.approx(stored, rel=1e-3)


@given(LENGTHS, st.floats(1, 100))
def test_equal_amplifications_are_one(lengths: list[int], gain: float) -> None:
    alone = tolerance("fp32", lengths, gain)
    assert tolerance("fp32", lengths, [gain] * len(lengths)) == pytest.approx(alone, rel=1e-12)


def test_an_inner_layer_with_little_signal_counts() -> None:
    """A trained network whose last layers remove the common part again."""
    lengths = [576, 576, 576]
    assert tolerance("bf16", lengths, [1.0, 5.0, 1.0]) == pytest.approx(
        tolerance("bf16", lengths, 1.0) * math.sqrt(27 / 3), rel=1e-12
    )
    assert tolerance("bf16", lengths, [1.0, 1.0, 5.0]) == tolerance("bf16", lengths, 5.0)


def test_no_tolerance_without_a_derivation() -> None:
    with pytest.raises(RequestError, match=r"precision 'int8'; there are fp32, tf32, fp16, bf16"):
        tolerance("int8", [27], 1.0)


@pytest.mark.parametrize(
    ("lengths", "gain"),
    [([], 1.0), ([27, 0], 1.0), ([27], 0.0), ([27], math.nan), ([27, 27], [1.0]), ([27, 27], [1.0, -1.0])],
)
def test_numbers_that_make_no_network_are_refused(lengths: list[int], gain: float | list[float]) -> None:
    with pytest.raises(ValueError, match=r"layers|amplifications"):
        tolerance("fp32", lengths, gain)


def test_reference_without_signal_has_the_widest() -> None:
    assert tolerance("fp32", [27], math.inf) == LARGEST
