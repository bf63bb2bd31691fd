"""Does the 95 % interval over launches hold, and does the status say so where it cannot? Simulated, seeded.

    python benchmarks/calibration.py [--trials 5000] [--seed 1] [--recording FILE.json]

A trial is one cell: launches of three blocks of 20 requests, each request's time the product of what its model says.
The figure is a row's own: per launch the median of its blocks' medians, over launches the Hodges-Lehmann estimate with
its signed-rank interval. The truth is what that estimates: the pseudomedian over launches of the same figure, from
400,000 launches of the model. Beside it the interval that is usually printed, mean +- 1.96 standard errors over all
requests as if they were independent, held against the mean; and the signs that `is_bimodal` and `is_drifting` look for.

`--recording` takes a JSON list of real launches in the order of time, `[{"blocks": [[ns, ...], ...]}, ...]`: trials are
then windows of consecutive launches, and the truth is the same figure over all of them.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from vggbench.stats import is_bimodal, is_drifting, signs
from vggbench.stats.beta import f_at_least
from vggbench.stats.launches import FALSE_ALARM_RATE
from vggbench.stats.location import largest_rejected_rank_sum, walsh_averages

COUNTS = (6, 8, 12, 20)
BLOCKS, SAMPLES = 3, 20
REQUEST_NOISE = 0.05  # of one request, relative; the recordings of a shared machine have 0.03 to 0.05
LAUNCH_NOISE = 0.02  # of a launch's level
MODE_SHARE, MODE_GAP = 0.3, 0.3  # every third launch is slower by a third
DRIFT = 0.1  # of the level over a long time; the recordings have 0.1
TRUTH_LAUNCHES = 400_000
RATES = (0.01, FALSE_ALARM_RATE, 0.1, 0.2)
BATCH = 500  # trials held at once: 40 MB of the largest

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.standard_normal(shape)


def student(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Three degrees of freedom, scaled to a standard deviation of 1."""
    return random.standard_t(3, shape) / math.sqrt(3)


@dataclass(frozen=True)
class Model:
    """How the time of a request comes about; what is not named is off.

    Attributes:
        tails: distribution of a request and of a launch's level.
        correlation: of neighbouring requests of a launch (a first-order process).
        modes: whether a launch may be in a slow mode.
        stay: lives of a launch that a mode lasts, on the mean of the two; infinite: for life.
        drift: correlation of the drifting level from one launch to the next.
        duty: share of the time between two launches' starts that a launch lives; the level drifts on while it does.
    """

    name: str
    tails: Draw = normal
    correlation: float = 0.0
    modes: bool = False
    stay: float = math.inf
    drift: float = 0.0
    duty: float = 0.0

    @property
    def alike(self) -> bool:
        """Say whether launches are independent draws of one distribution without modes: an interval can hold."""
        return not self.modes and not self.drift

    def simulate(self, random: np.random.Generator, trials: int, launches: int) -> np.ndarray:
        """Return times relative to 1: (trials, launches, blocks, samples)."""
        life = (trials, launches, BLOCKS * SAMPLES)
        logs = REQUEST_NOISE * first_order(self.tails(random, life), self.correlation)
        logs += LAUNCH_NOISE * self.tails(random, (trials, launches, 1))
        if self.modes:
            logs += math.log1p(MODE_GAP) * self._slow(random, life)
        if self.drift:
            logs += DRIFT * self._drifting(random, life)
        # A request takes no time below 0, nor for ever: t3 has such draws, once in a million.
        return np.exp(np.clip(logs, -3, 3)).reshape(trials, launches, BLOCKS, SAMPLES)

    def _slow(self, random: np.random.Generator, life: tuple[int, int, int]) -> np.ndarray:
        """Say of each request whether the launch is in its slow mode then; a share of `MODE_SHARE` always is."""
        slow = np.empty(life, dtype=bool)
        slow[..., 0] = random.random(life[:2]) < MODE_SHARE
        leaving = 1 / (2 * self.stay * life[2])  # the two rates' mean over the share of time spent in each
        to_slow, to_fast = leaving / (1 - MODE_SHARE), leaving / MODE_SHARE
        chance = random.random(life)
        for step in range(1, life[2]):
            before = slow[..., step - 1]
            slow[..., step] = np.where(before, chance[..., step] >= to_fast, chance[..., step] < to_slow)
        return slow

    def _drifting(self, random: np.random.Generator, life: tuple[int, int, int]) -> np.ndarray:
        """Return a stationary level of variance 1, continuous over launches (an Ornstein-Uhlenbeck process)."""
        within = self.drift ** (self.duty / life[2])
        between = self.drift / within ** (life[2] - 1)
        level = np.empty(life)
        steps = random.standard_normal(life)
        now = random.standard_normal(life[0])
        for launch in range(life[1]):
            for step in range(life[2]):
                kept = within if step else between
                now = kept * now + math.sqrt(1 - kept**2) * steps[:, launch, step]
                level[:, launch, step] = now
        return level


MODELS = (
    Model("independent, normal"),
    Model("independent, heavy tails (t3)", tails=student),
    Model("correlated within a launch (0.7)", correlation=0.7),
    Model("correlated within a launch (0.9)", correlation=0.9),
    Model("two modes, for life", modes=True),
    Model("two modes, each for two lives", modes=True, stay=2.0),
    Model("drift between launches only (0.5)", drift=0.5),
    Model("drift between launches only (0.8)", drift=0.8),
    Model("drift all the time (0.5)", drift=0.5, duty=0.3),
    Model("drift all the time (0.8)", drift=0.8, duty=0.3),
)


def first_order(values: np.ndarray, correlation: float) -> np.ndarray:
    """Return a stationary first-order process of the same variance along the last axis."""
    if correlation:
        for step in range(1, values.shape[-1]):
            fresh = math.sqrt(1 - correlation**2) * values[..., step]
            values[..., step] = correlation * values[..., step - 1] + fresh
    return values


def figures(times: np.ndarray) -> np.ndarray:
    """Return each launch's figure: the median of its blocks' medians."""
    return np.median(np.median(times, axis=-1), axis=-1)


@dataclass(frozen=True)
class Trials:
    """What was seen in trials of one model with one number of launches; an entry a trial.

    Attributes:
        missed: whether the interval over launches misses the truth.
        naive_missed: whether the one over requests misses the mean.
        found: by declared rate, which of the three signs were found: (trials, 3), in the order groups, order, movement.
        reachable: how likely the best test finds a sign in this trial, at the default rate; None where none is known.
    """

    missed: np.ndarray
    naive_missed: np.ndarray
    found: dict[float, np.ndarray]
    reachable: np.ndarray | None = None


def look(times: np.ndarray, truth: float, mean: float) -> Trials:
    """Judge trials of times (trials, launches, blocks, samples)."""
    trials, launches, blocks, samples = times.shape
    levels = figures(times)
    averages = np.sort(walsh_averages(levels), axis=-1)
    rejected = largest_rejected_rank_sum(launches, 0.95)
    requests = times.reshape(trials, -1)
    reach = 1.96 * requests.std(axis=1, ddof=1) / math.sqrt(requests.shape[1])
    logs = np.log(times)
    order = signs.order_ratio(levels)
    groups, _ = signs.group_ratio(np.log(levels))
    movement = signs.movement_ratio(signs.block_pieces(logs), signs.neighbour_correlation(logs), samples)
    freedom = launches * (blocks - 1), launches * blocks * (signs.PIECES - 1)
    found = {}
    for rate in RATES:
        level = rate / 2  # as `is_bimodal` and `is_drifting` share it out
        limits = (
            upper_limit(signs.group_null(launches), level),
            lower_limit(signs.order_null(launches), level),
            movement_limit(*freedom, level),
        )
        found[rate] = np.stack([groups >= limits[0], order <= limits[1], movement >= limits[2]], axis=1)
    return Trials(
        missed=(averages[:, rejected] > truth) | (averages[:, -1 - rejected] < truth),
        naive_missed=np.abs(requests.mean(axis=1) - mean) > reach,
        found=found,
    )


def upper_limit(null: np.ndarray, level: float) -> float:
    """Return the smallest ratio that chance reaches with a probability of at most `level`."""
    return float(null[-math.floor(level * null.size)]) * (1 - 1e-9) if level * null.size >= 1 else math.inf


def lower_limit(null: np.ndarray, level: float) -> float:
    """Return the largest ratio that chance stays at or below with a probability of at most `level`; ties are many."""
    candidates = np.unique(null)
    allowed = np.searchsorted(null, candidates * (1 + 1e-9), side="right") <= level * null.size
    return float(candidates[allowed][-1]) * (1 + 1e-9) if allowed.any() else -math.inf


@lru_cache(maxsize=64)
def movement_limit(numerator: int, denominator: int, level: float) -> float:
    """Return the ratio that Fisher's F reaches with a probability of `level`, by bisection."""
    low, high = 0.0, 1e6
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if f_at_least(middle, numerator, denominator) > level else (low, middle)
    return high


def reachable(model: Model, times: np.ndarray, random: np.random.Generator) -> np.ndarray | None:
    """Return how likely the best possible test finds what is wrong with each trial, at the default rate.

    Launches that are all in one mode for life look as launches without modes do: found at the rate of false alarms.
    Of a drift between launches only their levels tell; the most powerful test of these that does not know the level
    itself, nor the spread, is the likelihood ratio of their invariants, given the true correlation (King,
    "Robust tests for spherical symmetry and their application to least squares regression", Annals of Statistics 8
    (1980)).
    """
    levels = np.log(figures(times))
    if model.modes and math.isinf(model.stay):
        both = np.ptp(levels, axis=1) > math.log1p(MODE_GAP) / 2
        return np.where(both, 1.0, FALSE_ALARM_RATE)
    if model.drift and not model.duty:
        ratio = optimal_order_ratio(levels, model.drift)
        chance = optimal_order_ratio(random.standard_normal((20_000, levels.shape[1])), model.drift)
        return (ratio > np.quantile(chance, 1 - FALSE_ALARM_RATE)).astype(float)
    return None


def optimal_order_ratio(levels: np.ndarray, correlation: float) -> np.ndarray:
    """Return the sum of squares about the mean over that in the metric of the correlated process."""
    count = levels.shape[1]
    noise = (LAUNCH_NOISE / DRIFT) ** 2  # of what is independent, in units of the drift's variance
    distances = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    inverse = np.linalg.inv(correlation**distances + noise * np.eye(count))
    weights = inverse.sum(axis=0) / inverse.sum()
    residuals = levels - (levels @ weights)[:, np.newaxis]
    plain = ((levels - levels.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return plain / np.einsum("ti,ij,tj->t", residuals, inverse, residuals)


def run(model: Model, launches: int, trials: int, truth: float, mean: float, seed: int) -> Trials:
    random = np.random.default_rng([seed, launches, *model.name.encode()])
    parts = []
    while trials > 0:
        times = model.simulate(random, min(BATCH, trials), launches)
        part = look(times, truth, mean)
        if not parts:
            check(times[:20], part)
        parts.append(replace(part, reachable=reachable(model, times, random)))
        trials -= BATCH
    return joined(parts)


def joined(parts: list[Trials]) -> Trials:
    known = [part.reachable for part in parts if part.reachable is not None]
    return Trials(
        missed=np.concatenate([part.missed for part in parts]),
        naive_missed=np.concatenate([part.naive_missed for part in parts]),
        found={rate: np.concatenate([part.found[rate] for part in parts]) for rate in RATES},
        reachable=np.concatenate(known) if known else None,
    )


def check(times: np.ndarray, part: Trials) -> None:
    """The table is of what a row is told: the public functions find the same."""
    for trial, found in zip(times, part.found[FALSE_ALARM_RATE], strict=False):
        groups, _ = is_bimodal(trial).signs
        order, movement = is_drifting(trial).signs
        assert [sign.found for sign in (groups, order, movement)] == found.tolist()


def truth_of(model: Model, seed: int) -> tuple[float, float]:
    """Return the pseudomedian over launches of the figure, and the mean over requests."""
    random = np.random.default_rng([seed, *model.name.encode()])
    found, means = [], []
    for _ in range(TRUTH_LAUNCHES // (20 * BATCH)):
        times = model.simulate(random, 20 * BATCH, 1)
        found.append(figures(times)[:, 0])
        means.append(float(times.mean()))
    levels = np.concatenate(found)
    averages = [(levels + random.permutation(levels)) / 2 for _ in range(4)]
    return float(np.median(averages)), float(np.mean(means))


def recorded(path: Path, launches: int, *, consecutive: bool, seed: int) -> Trials:
    """Return trials of a recording: all windows of consecutive launches, or as many random choices of launches."""
    times = np.array([launch["blocks"] for launch in json.loads(path.read_text())], dtype=float)
    truth = float(np.median(walsh_averages(figures(times))))
    starts = np.arange(len(times) - launches + 1)
    random = np.random.default_rng([seed, launches])
    rows = (
        starts[:, np.newaxis] + np.arange(launches)
        if consecutive
        else np.array([random.choice(len(times), launches, replace=False) for _ in range(10 * len(starts))])
    )
    return look(times[rows], truth, float(times.mean()))


def line(name: str, launches: int, seen: Trials) -> str:
    found = seen.found[FALSE_ALARM_RATE]
    shares = [1 - seen.missed.mean(), 1 - seen.naive_missed.mean(), *found.mean(axis=0), found.any(axis=1).mean()]
    flagged = found.any(axis=1)[seen.missed].mean() if seen.missed.any() else math.nan
    best = percent(seen.reachable[seen.missed].mean()) if seen.reachable is not None else ""
    return "| " + " | ".join([name, str(launches), *map(percent, shares), percent(flagged), best]) + " |"


def rate_line(name: str, launches: int, seen: Trials) -> str:
    missed = [seen.found[rate].any(axis=1)[seen.missed].mean() for rate in RATES]
    return "| " + " | ".join([name, str(launches), *map(percent, missed)]) + " |"


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def head(*names: str) -> str:
    return "| " + " | ".join(names) + " |\n|" + " --- |" * len(names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--recording", type=Path)
    options = parser.parse_args()
    start = time.monotonic()
    truths = {model.name: truth_of(model, options.seed) for model in MODELS}
    table = {
        (model.name, launches): run(model, launches, options.trials, *truths[model.name], options.seed)
        for model in MODELS
        for launches in COUNTS
    }
    if options.recording:
        for name, consecutive in (("recorded, drawn at random", False), ("recorded, as they came", True)):
            for launches in COUNTS:
                seen = recorded(options.recording, launches, consecutive=consecutive, seed=options.seed)
                table[name, launches] = seen
    columns = ("coverage %", "over requests %", "groups %", "order %", "movement %", "any %", "of misses %", "best %")
    print(head("noise", "launches", *columns))
    for key, seen in table.items():
        print(line(*key, seen))
    print("\n" + head("noise", "launches", *(f"declared {percent(rate)} %" for rate in RATES)))
    alike = {model.name for model in MODELS if model.alike}
    for key, seen in table.items():
        if key[0] not in alike:
            print(rate_line(*key, seen))
    print(f"\n{options.trials} trials a line, seed {options.seed}, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
