"""Launches that are alike raise no alarm beyond the declared rate; modes and drift are seen and named."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.measure.replay import recorded_rounds
from vggbench.stats import Diagnosis, is_bimodal, is_drifting, largest_unseen_share

LEVEL_MS = 10.0


def measured(levels: np.ndarray, *, seed: int = 0, noise: float = 0.02) -> list[np.ndarray]:
    """Return launches of three blocks of 20 around these levels (logarithms), one a launch or one a block."""
    shape = (len(levels), 3, 20)
    own = np.asarray(levels).reshape(len(levels), -1, 1)
    return list(LEVEL_MS * np.exp(own + np.random.default_rng(seed).normal(0, noise, shape)))


def sign(diagnosis: Diagnosis, test: str) -> tuple[bool, str]:
    (found,) = [sign for sign in diagnosis.signs if sign.test == test]
    return found.found, found.text


MODES = np.array([0.0, 0.25, 0.01, 0.26, -0.01, 0.24, 0.0, 0.25])


def test_two_groups_of_launches_are_bimodal() -> None:
    diagnosis = is_bimodal(measured(MODES))
    assert diagnosis.found
    assert "4 of 8 launches are faster than the others" in diagnosis.reason
    assert "28" in diagnosis.reason  # exp(0.25) - 1
    assert not is_drifting(measured(MODES)).found


@pytest.mark.parametrize(
    ("outlier", "words"), [(0.9, "1 of 12 launches is slower"), (-0.9, "1 of 12 launches is faster")]
)
def test_one_launch_far_away_is_a_group(outlier: float, words: str) -> None:
    levels = np.random.default_rng(3).normal(0, 0.02, 12)
    levels[4] = outlier
    assert words in is_bimodal(measured(levels)).reason


def test_levels_that_switch_while_launches_run_are_bimodal() -> None:
    levels = np.zeros((6, 3))
    levels[1, 1:] = levels[4, 2] = levels[5] = 0.3
    diagnosis = is_bimodal(measured(levels))
    assert sign(diagnosis, "switching") == (True, diagnosis.signs[1].text)
    assert "switch between two levels 3" in diagnosis.reason


def test_a_level_that_moves_while_launches_run_drifts_and_is_not_two_levels() -> None:
    levels = np.cumsum(np.random.default_rng(4).normal(0, 0.06, (8, 3)), axis=1)
    assert sign(is_drifting(measured(levels)), "movement")[0]
    assert not sign(is_bimodal(measured(levels)), "switching")[0]


def test_a_trend_over_launches_drifts() -> None:
    diagnosis = is_drifting(measured(np.arange(6) * 0.1))
    assert sign(diagnosis, "order")[0]
    assert diagnosis.reason == "launches near in time are alike (rank von Neumann ratio 0.29, by chance 2)"


def test_launches_that_alternate_do_not_drift() -> None:
    assert not is_drifting(measured(np.array([0.0, 0.1] * 5))).found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "t3"])
@pytest.mark.parametrize("look", [is_bimodal, is_drifting])
def test_false_alarms_are_as_few_as_declared(look, kind: str) -> None:
    random = np.random.default_rng(5)
    draw = random.normal if kind == "normal" else lambda _, scale, size: scale * random.standard_t(3, size)
    trials, declared = 400, 0.2
    launches = [
        list(np.exp(draw(0.0, 0.02, (6, 1, 1)) + np.clip(draw(0.0, 0.05, (6, 3, 20)), -3, 3))) for _ in range(trials)
    ]
    alarms = sum(look(trial, false_alarms=declared).found for trial in launches)
    # 2.3 standard errors of 400 trials; the draw is seeded.
    assert alarms / trials <= declared + 2.3 * math.sqrt(declared * (1 - declared) / trials)


@given(st.integers(0, 10_000), st.sampled_from([0.001, 0.05, 0.5]), st.integers(-20, 20))
def test_the_unit_of_time_does_not_matter(seed: int, rate: float, exponent: int) -> None:
    launches = measured(np.random.default_rng(seed).normal(0, 0.05, 6), seed=seed)
    scaled = [launch * 2.0**exponent for launch in launches]
    for look in (is_bimodal, is_drifting):
        assert look(scaled, false_alarms=rate).found == look(launches, false_alarms=rate).found


@given(st.integers(0, 10_000))
def test_who_accepts_more_false_alarms_sees_no_less(seed: int) -> None:
    launches = measured(np.random.default_rng(seed).normal(0, 0.05, 7), seed=seed)
    for launch_sign, wider in zip(
        is_drifting(launches, false_alarms=0.02).signs, is_drifting(launches, false_alarms=0.4).signs, strict=True
    ):
        assert wider.p_value == launch_sign.p_value
        assert wider.found or not launch_sign.found


def test_equal_durations_are_alike() -> None:
    launches = [[[5.0] * 10] * 3] * 6
    assert not is_bimodal(launches).found
    assert not is_drifting(launches).found
    assert is_bimodal(launches).reason == ""


def test_too_little_to_tell_is_no_finding() -> None:
    one = [[[1.0, 2.0]]]
    assert [sign.p_value for sign in (*is_bimodal(one).signs, *is_drifting(one).signs)] == [None] * 4
    assert not is_bimodal(one).found
    short = [[[1.0, 1.1, 1.2]] * 3] * 6  # three samples a block: nothing to cut into pieces
    assert [sign.p_value is None for sign in is_drifting(short).signs] == [False, True]


def test_blocks_of_different_lengths_are_compared() -> None:
    launches = [list(launch) for launch in measured(np.zeros(6))]
    launches[2] = [launches[2][0][:9], launches[2][1][:5], launches[2][2]]
    launches[3] = launches[3][:1]
    assert not is_drifting(launches).found
    launches[0][1] = launches[0][1] * 2
    assert is_drifting(launches).found


def test_the_recorded_launches_move_while_they_run() -> None:
    """A shared machine: its neighbours' work is in every launch, and no interval over few of them holds."""
    assert sign(is_drifting(recorded_rounds()[:6]), "movement")[0]


@pytest.mark.parametrize(
    ("launches", "words"),
    [
        ([], "no launches"),
        ([[]], "no samples"),
        ([[[1.0]], []], "no samples"),
        ([[[]]], "no values"),
        ([[[1.0, 0.0]]], "positive, not 0.0"),
        ([[[1.0, math.nan]]], "NaN"),
    ],
)
@pytest.mark.parametrize("look", [is_bimodal, is_drifting])
def test_what_is_no_measurement_is_refused(look, launches, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        look(launches)


@pytest.mark.parametrize("rate", [0.0, 1.0, 5.0, math.nan])
def test_a_rate_in_percent_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        is_bimodal([[[1.0]]], false_alarms=rate)


@pytest.mark.parametrize(("launches", "share"), [(1, 0.95), (6, 0.393), (20, 0.139)])
def test_a_mode_that_nobody_saw_may_have_this_share(launches: int, share: float) -> None:
    found = largest_unseen_share(launches)
    assert found == pytest.approx(share, abs=5e-4)
    assert (1 - found) ** launches == pytest.approx(0.05)


def test_a_share_needs_launches_and_a_confidence() -> None:
    with pytest.raises(ValueError, match="no launches"):
        largest_unseen_share(0)
    with pytest.raises(ValueError, match="confidence"):
        largest_unseen_share(6, confidence=95)
