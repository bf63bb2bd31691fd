"""Does the gate keep what it declares, and what does it find? Simulated and recorded pairs, seeded.

    python benchmarks/gate_proof.py --recordings FOLDER [--quick] [--seed 1]

Prints the tables of benchmarks/README.md, each figure beside the one to reach, and exits with 1 if one is missed. The
folder holds recorded pairs of processes of the same model, `pair_1thread.json` and `pair_2threads.json`: lists of
rounds `{"blocks": [[side, block, position, [ns, ...]], ...]}`. Without it only what is simulated is printed; --quick
is a twentieth of the trials. Slowdowns are injected by scaling head. The decisions are those of `vggbench.gate`:
`swap_p_values` on many tables at once, which a test holds against `judge` on each.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gate_noise import PRESETS, correlated, drawn, effects_of, first_steady, read_pairs
from gate_rules import RULES

from vggbench.gate.power import others_maxima, smallest_found
from vggbench.gate.records import DROPPED_ITERATIONS, Rule
from vggbench.stats import wilson_interval
from vggbench.stats.label_swap import swap_p_values

SINGLE = Rule(tolerance=0.0, rounds=12, confirmation_rounds=0)
STRICT = Rule(tolerance=0.0)  # the shipped stages where they are most easily alarmed
SHIPPED = Rule()
QUICK = 20  # how many times fewer trials --quick makes
AT_ONCE = 2**14  # cells held at once
LARGEST_ALARM = 0.01
MOST_ROUNDS = 8.0


@dataclass(frozen=True)
class Line:
    """One line of the table; `bound` is what the figure has to keep: at most, or at least, in percent or rounds."""

    what: str
    data: str
    trials: int
    figure: float
    bound: float | None = None
    at_most: bool = False
    unit: str = "%"

    @property
    def missed(self) -> bool:
        return self.bound is not None and (self.figure > self.bound if self.at_most else self.figure < self.bound)

    @property
    def texts(self) -> tuple[str, ...]:
        bound = "" if self.bound is None else f"{'at most' if self.at_most else 'at least'} {self.bound:g}"
        return self.what, self.data, f"{self.trials:,}", self._figure(), bound, "missed" if self.missed else ""

    def _figure(self) -> str:
        if self.unit != "%":
            return f"{self.figure:.2f} {self.unit}"
        low, high = wilson_interval(round(self.figure / 100 * self.trials), self.trials)
        return f"{self.figure:.2f} ({100 * low:.2f} to {100 * high:.2f})"


def found(effects: np.ndarray, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    """Return which cells of (trials, cells, rounds of all stages) are REGRESSED, and which the first stage flags."""
    size = max(1, AT_ONCE // effects.shape[1])
    parts = [_found(effects[start : start + size], rule) for start in range(0, len(effects), size)]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _found(effects: np.ndarray, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    shifted = effects - math.log1p(rule.tolerance)
    first, level = rule.stages[0]
    flagged = swap_p_values(shifted[..., :first]) <= level
    regressed = flagged.copy()
    if len(rule.stages) > 1:
        _, level = rule.stages[1]
        asked = flagged.any(axis=1)
        # A cell that was not flagged is no member of the second stage: without effects its statistic is 0 always.
        again = np.where(flagged[asked][..., np.newaxis], shifted[asked][..., first:], 0.0)
        regressed[asked] &= swap_p_values(again) <= level if len(again) else False
    return regressed, flagged


def rounds_of(rule: Rule) -> int:
    return sum(count for count, _ in rule.stages)


def alarms(effects: np.ndarray, rule: Rule, what: str, data: str) -> Line:
    share = 100 * found(effects, rule)[0].any(axis=1).mean()
    return Line(what, data, len(effects), float(share), 100 * LARGEST_ALARM, at_most=True)


def simulated(random: np.random.Generator, fewer: int) -> list[Line]:
    lines = []
    for noise in PRESETS:
        for rounds in (8, 12, 20):
            rule = Rule(tolerance=0.0, rounds=rounds, confirmation_rounds=0)
            effects = noise.effects(random, 10_000 // fewer, rounds)[:, np.newaxis]
            lines.append(alarms(effects, rule, f"false alarms, {rounds} rounds, one stage", noise.name))
    for cells in (24, 96):
        for rule, name in ((SINGLE, "12 rounds, one stage"), (STRICT, "two stages")):
            effects = correlated(random, 5_000 // fewer, cells, rounds_of(rule))
            lines.append(alarms(effects, rule, f"family-wise, {cells} cells, {name}", "correlated, heavy tails"))
    for noise in PRESETS[:2]:
        effects = noise.effects(random, 20_000 // fewer, rounds_of(STRICT))[:, np.newaxis]
        lines += end_to_end(effects, STRICT, f"simulated, {noise.name}")
    return lines + end_to_end(
        correlated(random, 20_000 // fewer, 24, rounds_of(STRICT)), STRICT, "simulated, 24 cells, correlated"
    )


def end_to_end(effects: np.ndarray, rule: Rule, data: str) -> list[Line]:
    regressed, flagged = found(effects, rule)
    share, first = 100 * regressed.any(axis=1).mean(), flagged.any(axis=1).mean()
    rounds = rule.rounds + rule.confirmation_rounds * first
    what = f"two stages end to end, A/A, tolerance {rule.tolerance:.0%}"
    return [
        Line(what, data, len(effects), float(share), 100 * LARGEST_ALARM, at_most=True),
        Line("rounds they take, mean", data, len(effects), float(rounds), MOST_ROUNDS, at_most=True, unit="rounds"),
    ]


def recorded(effects: np.ndarray, random: np.random.Generator, fewer: int, data: str) -> list[Line]:
    lines = end_to_end(drawn(effects, random, 20_000 // fewer, rounds_of(STRICT))[:, np.newaxis], STRICT, data)
    draws = drawn(effects, random, 2_000 // fewer, rounds_of(SINGLE))
    for percent, least in ((1, 25), (2, 88), (3, 98), (5, 100), (10, 100)):
        lines.append(detection(draws, SINGLE, percent, least, data, "12 rounds, one stage, tolerance 0"))
    draws = drawn(effects, random, 2_000 // fewer, rounds_of(SHIPPED))
    for percent, least in ((2, 45), (3, 93), (5, 99)):
        lines.append(detection(draws, SHIPPED, percent, least, data, "the shipped two stages, tolerance 1 %"))
    return [*lines, *mde_lines(effects, random, 2_000 // fewer, data)]


def detection(draws: np.ndarray, rule: Rule, percent: float, least: float | None, data: str, how: str) -> Line:
    slower = draws[:, np.newaxis] + math.log1p(percent / 100)
    share = 100 * found(slower, rule)[0].mean()
    return Line(f"finds {percent:g} %: {how}", data, len(draws), float(share), least)


def mde_lines(effects: np.ndarray, random: np.random.Generator, trials: int, data: str) -> list[Line]:
    """Inject what a gate of the same rounds says that it would have found nine times in ten, in fresh rounds."""
    seen, fresh = (drawn(effects, random, trials, rounds_of(SHIPPED)) for _ in range(2))
    shifted = seen[:, : SHIPPED.rounds] - math.log1p(SHIPPED.tolerance)
    said = [smallest_found([row], SHIPPED, others_maxima(row[np.newaxis])[0]) for row in shifted]
    largest = np.array([math.inf if value is None else value for value in said])
    known = np.isfinite(largest)
    slower = fresh[known] + np.log1p(largest[known])[:, np.newaxis]
    share = 100 * found(slower[:, np.newaxis], SHIPPED)[0].mean()
    return [
        Line("finds the MDE90 that other rounds said", data, int(known.sum()), float(share)),
        Line("that MDE90, median", data, int(known.sum()), 100 * float(np.median(largest)), unit="percent"),
    ]


def other_drops(pairs: np.ndarray, seed: int, trials: int) -> list[list[str]]:
    """Return what the shipped stages find of the same draws if other numbers of first iterations did not count."""
    table = [["first iterations that do not count", "finds 2 %", "finds 3 %"]]
    for dropped in range(DROPPED_ITERATIONS - 2, DROPPED_ITERATIONS + 3):
        effects = effects_of(pairs, dropped)
        draws = drawn(effects, np.random.default_rng(seed), trials, rounds_of(SHIPPED))
        lines = [detection(draws, SHIPPED, percent, None, "", "") for percent in (2, 3)]
        table.append([str(dropped), *(f"{line.figure:.1f} %" for line in lines)])
    return table


def other_rules(pairs: np.ndarray, random: np.random.Generator, trials: int) -> list[list[str]]:
    """Return for each rule, ours first, the share of the same draws that it calls slower, by the slowdown injected."""
    slowdowns = (0, 1, 2, 3, 5, 10)
    chosen = np.argsort(random.random((trials, len(pairs))), axis=1)[:, : SINGLE.rounds]
    swapped = random.random(chosen.shape) < 0.5
    table = {name: [0.0] * len(slowdowns) for name in ("vggbench, 12 rounds, one stage, tolerance 0", *RULES)}
    effects = np.where(swapped, -1.0, 1.0) * effects_of(pairs, DROPPED_ITERATIONS)[chosen]
    table[next(iter(table))] = [
        float(found((effects + math.log1p(percent / 100))[:, np.newaxis], SINGLE)[0].mean()) for percent in slowdowns
    ]
    for rows, flips in zip(np.array_split(chosen, 20), np.array_split(swapped, 20), strict=True):
        sides = pairs[rows[..., np.newaxis], np.stack([flips, ~flips], axis=-1).astype(int)]
        for name, rule in RULES.items():
            for place, percent in enumerate(slowdowns):
                hits = rule(sides[:, :, 0], sides[:, :, 1] * (1 + percent / 100)).sum()
                table[name][place] += float(hits) / trials
    head = ["rule", *(f"{percent} % slower" if percent else "the same" for percent in slowdowns)]
    return [head, *([name, *(f"{100 * share:.1f} %" for share in shares)] for name, shares in table.items())]


def markdown(lines: list[list[str]]) -> str:
    lines = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started, fewer = time.monotonic(), QUICK if options.quick else 1
    random = np.random.default_rng(options.seed)
    lines = simulated(random, fewer)
    if options.recordings:
        pairs = read_pairs(options.recordings / "pair_1thread.json")
        lines += recorded(effects_of(pairs, DROPPED_ITERATIONS), random, fewer, "pair_1thread")
        other = effects_of(read_pairs(options.recordings / "pair_2threads.json"), DROPPED_ITERATIONS)
        draws = drawn(other, random, 2_000 // fewer, rounds_of(SINGLE))
        lines.append(detection(draws, SINGLE, 5, None, "pair_2threads", "12 rounds, one stage, tolerance 0"))
    head = ["what", "data", "trials", "% of them (95 %)", "to reach", ""]
    print(markdown([head, *(list(line.texts) for line in lines)]))
    if options.recordings:
        steady, profile = first_steady(pairs)
        print(
            f"\nThe first {steady} iterations of a block are slower than its median by more than 0.5 %: "
            f"{', '.join(f'{percent:+.1f}' for percent in profile[: steady + 3])} %, ...\n"
        )
        print(markdown(other_rules(pairs, random, 2_000 // fewer)), end="\n\n")
        print(markdown(other_drops(pairs, options.seed, 2_000 // fewer)))
    missed = sum(line.missed for line in lines)
    print(f"\n{missed} figures missed; seed {options.seed}, {time.monotonic() - started:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
