"""The simulation behind the published coverage: its models are what they say, and it judges as a row is judged."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from tests.meta.repository import benchmark


@pytest.fixture(scope="module")
def calibration() -> ModuleType:
    return benchmark("calibration")


def model_named(calibration: ModuleType, name: str):
    (found,) = [model for model in calibration.MODELS if model.name == name]
    return found


def logs_of(calibration: ModuleType, name: str, trials: int, launches: int) -> np.ndarray:
    return np.log(model_named(calibration, name).simulate(np.random.default_rng(1), trials, launches))


def test_requests_and_launches_scatter_as_declared(calibration):
    for name in ("independent, normal", "independent, heavy tails (t3)", "correlated within a launch (0.7)"):
        logs = logs_of(calibration, name, 2000, 2).reshape(2000, 2, -1)
        between = logs.mean(axis=-1)
        assert (logs - between[..., np.newaxis]).std() == pytest.approx(calibration.REQUEST_NOISE, rel=0.1), name
        assert np.corrcoef(between[:, 0], between[:, 1])[0, 1] == pytest.approx(0, abs=0.1), name


@pytest.mark.parametrize("name", ["two modes, for life", "two modes, each for two lives"])
def test_the_slow_mode_has_its_share_at_any_time(calibration, name: str):
    slow = logs_of(calibration, name, 4000, 1).reshape(4000, -1) > np.log1p(calibration.MODE_GAP) / 2
    assert slow[:, 0].mean() == pytest.approx(calibration.MODE_SHARE, abs=0.03)
    assert slow[:, -1].mean() == pytest.approx(calibration.MODE_SHARE, abs=0.03)


def test_modes_change_as_often_as_declared(calibration):
    """A mode lasts two lives on the mean over time: 1 / 2 changes of mode in a life, however they are shared out."""
    logs = logs_of(calibration, "two modes, each for two lives", 4000, 1)
    slow = np.median(logs[..., :10], axis=-1)[:, 0, 0] > 0.13, np.median(logs[..., -10:], axis=-1)[:, 0, -1] > 0.13
    # Both rates together, 1 / (2 * 2 * 0.3 * 0.7) a life, over the 0.83 of a life between the two looks.
    expected = 2 * 0.3 * 0.7 * (1 - np.exp(-0.83 / (2 * 2 * 0.3 * 0.7)))
    assert (slow[0] != slow[1]).mean() == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("correlation", [0.5, 0.8])
@pytest.mark.parametrize("kind", ["between launches only", "all the time"])
def test_drift_has_its_size_and_its_memory(calibration, kind: str, correlation: float):
    logs = logs_of(calibration, f"drift {kind} ({correlation})", 4000, 3)
    starts = np.median(logs[:, :, 0, :5], axis=-1)
    drift = calibration.DRIFT
    assert np.cov(starts[:, 0], starts[:, 1])[0, 1] == pytest.approx(correlation * drift**2, rel=0.12)
    assert np.cov(starts[:, 0], starts[:, 2])[0, 1] == pytest.approx(correlation**2 * drift**2, rel=0.2)


@pytest.mark.parametrize("launches", [6, 9])
@pytest.mark.parametrize("name", ["independent, normal", "two modes, each for two lives", "drift all the time (0.8)"])
def test_the_table_finds_what_a_row_is_told(calibration, name: str, launches: int):
    """`run` holds the first trials against `is_bimodal` and `is_drifting` themselves."""
    seen = calibration.run(model_named(calibration, name), launches, 30, 1.0, 1.0, seed=2)
    assert seen.missed.shape == (30,)
    assert {rate: found.shape for rate, found in seen.found.items()} == dict.fromkeys(calibration.RATES, (30, 3))


def test_a_table_that_differs_from_what_a_row_is_told_is_refused(calibration):
    times = model_named(calibration, "independent, normal").simulate(np.random.default_rng(3), 5, 6)
    part = calibration.look(times, 1.0, 1.0)
    part.found[calibration.FALSE_ALARM_RATE][2, 1] ^= True
    with pytest.raises(AssertionError):
        calibration.check(times, part)


@pytest.mark.parametrize("level", [0.005, 0.025, 0.1])
def test_limits_leave_chance_at_most_its_level(calibration, level: float):
    random = np.random.default_rng(4)
    distinct, tied = np.sort(random.random(20_000)), np.sort(random.integers(0, 500, 20_000) / 100)
    assert (distinct >= calibration.upper_limit(distinct, level)).mean() == level
    assert level / 2 <= (tied <= calibration.lower_limit(tied, level)).mean() <= level
    assert calibration.f_at_least(calibration.movement_limit(12, 54, level), 12, 54) == pytest.approx(level, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("launches", [6, 12])
@pytest.mark.parametrize(
    "name",
    ["independent, normal", "independent, heavy tails (t3)", "correlated within a launch (0.7)"],
)
def test_the_interval_covers_and_the_status_is_quiet_on_good_noise(calibration, name: str, launches: int):
    seen = calibration.run(model_named(calibration, name), launches, 1500, 1.0, 1.0, seed=5)
    # Three standard errors of 1,500 trials about 94 to 97.5 %; and about twice 5 % with one test shared.
    assert 0.922 <= 1 - seen.missed.mean() <= 0.987
    assert seen.found[calibration.FALSE_ALARM_RATE].any(axis=1).mean() <= 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two modes, for life", "two modes, each for two lives", "drift all the time (0.5)"])
def test_misses_of_twenty_launches_are_flagged(calibration, monkeypatch, name: str):
    monkeypatch.setattr(calibration, "TRUTH_LAUNCHES", 40_000)
    model = model_named(calibration, name)
    seen = calibration.run(model, 20, 1500, *calibration.truth_of(model, 5), seed=5)
    assert seen.missed.sum() >= 50
    assert seen.found[calibration.FALSE_ALARM_RATE].any(axis=1)[seen.missed].mean() >= 0.9


def test_a_mode_for_life_that_no_launch_showed_cannot_be_seen(calibration):
    """Every miss of six launches is such a one, so the best test finds them as often as it raises false alarms."""
    model = model_named(calibration, "two modes, for life")
    times = model.simulate(np.random.default_rng(6), 300, 6)
    levels = np.log(calibration.figures(times))
    best = calibration.reachable(model, times, np.random.default_rng(7))
    assert set(best) == {1.0, calibration.FALSE_ALARM_RATE}
    assert ((np.ptp(levels, axis=1) > 0.15) == (best == 1)).all()
