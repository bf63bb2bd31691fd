"""The metrics against plain arithmetic, and the reason for relating errors to the signal."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vggbench.parity.metrics import amplification, compare, has_signal, signal

TIGHT = 1e-12


def reference(images: int = 8, classes: int = 10, *, common: float = 0.0, seed: int = 0) -> np.ndarray:
    """Outputs with unit spread a class around a common part that the inputs do not change."""
    generator = np.random.default_rng(seed)
    return common * generator.normal(size=classes) + generator.normal(size=(images, classes))


def noise(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_every_figure_of_a_small_case_by_hand() -> None:
    expected = np.array([[3.0, 0.0], [0.0, 3.0]])
    observed = np.array([[3.0, 1.0], [0.0, 3.0]])
    metrics = compare(observed, expected)
    assert signal(expected) == pytest.approx(3.0, rel=TIGHT)  # both rows are sqrt(4.5) from the mean, over N - 1 = 1
    assert metrics.max_abs == 1.0
    assert metrics.relative_l2 == pytest.approx(1 / math.sqrt(18), rel=TIGHT)
    assert metrics.signal_error == pytest.approx(math.sqrt(1 / 2) / 3, rel=TIGHT)
    assert metrics.snr_db == pytest.approx(10 * math.log10(18), rel=TIGHT)
    assert metrics.per_image == pytest.approx((1 / 3, 0.0), rel=TIGHT)
    assert metrics.passing_tolerance == pytest.approx(math.sqrt(1 / 2) / 3, rel=TIGHT)
    # Centred: (1.5, -1), (-1.5, 1) against (1.5, -1.5), (-1.5, 1.5).
    assert metrics.cosine == pytest.approx(7.5 / (math.sqrt(6.5) * 3), rel=TIGHT)
    assert metrics.top1_agreement == 1.0
    assert metrics.top5_agreement is None
    assert metrics.nonfinite == 0


@given(st.integers(2, 12), st.integers(1, 30), st.floats(0, 100), st.integers(0, 99))
def test_deciding_metric_is_its_definition(images: int, classes: int, common: float, seed: int) -> None:
    expected = reference(images, classes, common=common, seed=seed)
    error = 0.01 * noise(expected.shape, seed)
    spread = np.linalg.norm(expected - expected.mean(axis=0)) / math.sqrt((images - 1) / images)
    metrics = compare(expected + error, expected)
    assert metrics.signal_error == pytest.approx(np.linalg.norm(error) / spread, rel=1e-9)
    relative = np.linalg.norm(error) / np.linalg.norm(expected)
    assert relative * amplification(expected) == pytest.approx(metrics.signal_error, rel=1e-9)


def test_signal_is_steady_in_the_number_of_images() -> None:
    few = np.mean([signal(reference(4, 50, seed=seed)) ** 2 for seed in range(400)])
    many = np.mean([signal(reference(32, 50, seed=seed)) ** 2 for seed in range(400)])
    assert few == pytest.approx(50, rel=0.02)
    assert many == pytest.approx(50, rel=0.02)


def test_network_that_ignores_its_input_is_seen_where_relative_l2_is_blind() -> None:
    expected = reference(common=30.0)
    blind = np.broadcast_to(expected.mean(axis=0), expected.shape)
    metrics = compare(blind, expected)
    assert metrics.relative_l2 < 0.05
    assert metrics.signal_error == pytest.approx(math.sqrt(7 / 8), rel=TIGHT)
    assert metrics.cosine is None


@given(st.integers(1, 5), st.randoms(use_true_random=False))
def test_tiled_and_shuffled_images_give_the_figures_of_the_plain_ones(repeats: int, random) -> None:
    expected = reference()
    observed = expected + 0.1 * noise(expected.shape)
    order = list(range(len(expected))) * repeats
    random.shuffle(order)
    plain, tiled = compare(observed, expected), compare(observed[order], expected, np.array(order))
    assert tiled.signal_error == pytest.approx(plain.signal_error, rel=TIGHT)
    assert tiled.cosine == pytest.approx(plain.cosine, rel=TIGHT)
    assert tiled.per_image == pytest.approx([plain.per_image[index] for index in order], rel=TIGHT)
    assert tiled.top1_agreement == plain.top1_agreement


def test_rows_in_the_wrong_order_are_an_error_of_more_than_the_signal() -> None:
    expected = reference()
    assert compare(expected[::-1], expected, np.arange(8)).signal_error > 1
    assert compare(expected[::-1], expected, np.arange(8)[::-1]).signal_error == 0


def test_equal_outputs() -> None:
    metrics = compare(reference(), reference())
    assert (metrics.max_abs, metrics.relative_l2, metrics.signal_error) == (0, 0, 0)
    assert metrics.snr_db == math.inf
    assert metrics.cosine == pytest.approx(1, rel=TIGHT)
    assert metrics.top1_agreement == metrics.top5_agreement == 1


@given(st.floats(1e-6, 1e6), st.floats(-1e3, 1e3))
def test_scale_of_the_logits_and_a_common_part_change_no_deciding_figure(scale: float, common: float) -> None:
    expected = reference()
    observed = expected + 0.1 * noise(expected.shape)
    moved = compare(scale * (observed + common), scale * (expected + common))
    assert moved.signal_error == pytest.approx(compare(observed, expected).signal_error, rel=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_makes_the_distances_infinite(bad: float) -> None:
    observed = reference()
    observed[3, 4] = observed[3, 5] = bad
    metrics = compare(observed, reference())
    assert metrics.nonfinite == 2
    assert metrics.signal_error == metrics.max_abs == metrics.relative_l2 == math.inf
    assert metrics.snr_db == -math.inf
    assert metrics.cosine is None
    assert [math.isinf(error) for error in metrics.per_image] == [index == 3 for index in range(8)]


def test_agreement_counts_ranks_and_ties_count_against() -> None:
    expected = np.tile(np.arange(10.0), (4, 1))
    expected[0] = expected[0, ::-1]  # so that the images do not all share one class
    observed = expected.copy()
    observed[1, 0] = 100.0  # the true class is second
    observed[2, :5] = 100.0  # the true class is sixth
    observed[3] = 0.0  # all tied
    metrics = compare(observed, expected)
    assert metrics.top1_agreement == 0.25
    assert metrics.top5_agreement == 0.5


def test_agreement_is_empty_where_all_images_share_one_class() -> None:
    expected = reference()
    expected[:, 2] += 100
    metrics = compare(expected, expected)
    assert metrics.top1_agreement is None
    assert metrics.top5_agreement is None


def test_low_precision_outputs_are_measured_in_float64() -> None:
    expected = reference()
    assert compare(expected.astype(np.float16), expected).max_abs == pytest.approx(
        float(np.abs(expected.astype(np.float16).astype(np.float64) - expected).max()), rel=TIGHT
    )


@pytest.mark.parametrize(
    "expected",
    [
        pytest.param(reference(1), id="one image"),
        pytest.param(np.full((8, 10), 0.1), id="constant"),
        pytest.param(np.full((8, 10), 0.1) + 1e-13 * reference(), id="rounding of float64"),
        pytest.param(np.zeros((8, 10)), id="zeros"),
        pytest.param(np.where(np.eye(8, 10) > 0, np.inf, reference()), id="infinite"),
        pytest.param(np.zeros((0, 10)), id="no images"),
    ],
)
def test_reference_without_a_signal_is_refused(expected: np.ndarray) -> None:
    with np.errstate(invalid="ignore"):
        assert not has_signal(expected)
        with pytest.raises(ValueError, match=r"same output|compared"):
            compare(expected, expected)


@given(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9))
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    if shape == (8, 10):
        return
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(np.zeros(shape), reference())
