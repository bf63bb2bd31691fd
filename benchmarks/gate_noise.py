"""Pairs of processes that are the same thing, simulated or recorded: what `gate_proof.py` draws its tables from.

A table is (cells, rounds) of effects, log(head / base), each the median over pairs of blocks of one round. In every
simulation both sides are drawn alike and the order within a round is a coin's: whatever is found is a false alarm.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vggbench.gate.effects import block_effects, round_effects

BLOCKS = 8  # pairs of blocks of a round, as in the recordings
PROCESS_NOISE = 0.01  # of a process's level, relative; the recordings have 0.011
BLOCK_NOISE = 0.01  # of a block's median
MODE_SHARE, MODE_GAP = 0.3, 0.3  # every third process is slower by a third, for life
DRIFT = 0.05  # of the machine's level, from round to round and again from a round's start to its end
ORDER = 0.01  # by so much the second of two neighbouring blocks is slower
SHARED = 0.7  # correlation of cells in the same round

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.standard_normal(shape)


def student(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Three degrees of freedom, scaled to a standard deviation of 1."""
    return random.standard_t(3, shape) / np.sqrt(3)


@dataclass(frozen=True)
class Noise:
    """How a block's time comes about; what is not named is off.

    Attributes:
        tails: distribution of a process's and of a block's level.
        modes: whether a process may be in a slow mode for life.
        drift: whether the machine's level moves, between rounds and within one, and order within a pair matters.
    """

    name: str
    tails: Draw = normal
    modes: bool = False
    drift: bool = False

    def effects(self, random: np.random.Generator, trials: int, rounds: int) -> np.ndarray:
        """Return (trials, rounds) effects of one cell."""
        levels = PROCESS_NOISE * self.tails(random, (trials, rounds, 2, 1))
        if self.modes:
            levels = levels + np.log1p(MODE_GAP) * (random.random(levels.shape) < MODE_SHARE)
        blocks = levels + BLOCK_NOISE * self.tails(random, (trials, rounds, 2, BLOCKS))
        if self.drift:
            blocks = blocks + self._drift(random, trials, rounds)
        return np.median(blocks[:, :, 1] - blocks[:, :, 0], axis=-1)

    def _drift(self, random: np.random.Generator, trials: int, rounds: int) -> np.ndarray:
        """Return what a block's place in time adds: a random walk over rounds, a slope within one, its place in a pair.

        A coin says which side goes first in a round; the sides then take turns.
        """
        head_first = random.random((trials, rounds)) < 0.5
        second = np.stack([head_first, ~head_first], axis=-1)[..., np.newaxis]
        place = 2 * np.arange(BLOCKS) + second
        slope = DRIFT / (2 * BLOCKS) * random.standard_normal((trials, rounds, 1, 1))
        level = np.cumsum(DRIFT * random.standard_normal((trials, rounds)), axis=1)[..., np.newaxis, np.newaxis]
        return level + slope * place + ORDER * second


PRESETS = (
    Noise("normal"),
    Noise("heavy tails (t3)", tails=student),
    Noise("two modes, for life", modes=True),
    Noise("drift and order", drift=True),
)


def correlated(random: np.random.Generator, trials: int, cells: int, rounds: int) -> np.ndarray:
    """Return (trials, cells, rounds) heavy-tailed effects that share most of a round's noise, quiet and loud cells."""
    loudness = np.exp(random.uniform(np.log(0.3), np.log(3), (trials, cells, 1)))
    shared = np.sqrt(SHARED) * student(random, (trials, 1, rounds))
    own = np.sqrt(1 - SHARED) * student(random, (trials, cells, rounds))
    return PROCESS_NOISE * loudness * (shared + own)


def read_pairs(path: Path) -> np.ndarray:
    """Return recorded pairs of processes in ns: (rounds, side, blocks, iterations)."""
    rounds = json.loads(path.read_text())
    blocks = [[[], []] for _ in rounds]
    for sides, found in zip(blocks, rounds, strict=True):
        for side, _, _, iterations in found["blocks"]:
            sides[side].append(iterations)
    return np.array(blocks, dtype=np.float64)


def effects_of(pairs: np.ndarray, dropped: int) -> np.ndarray:
    """Return the effect of each recorded round."""
    return round_effects([block_effects(base, head, dropped=dropped) for base, head in pairs])


def drawn(effects: np.ndarray, random: np.random.Generator, trials: int, rounds: int) -> np.ndarray:
    """Return (trials, rounds) effects: so many different recorded rounds, in each a coin names the sides."""
    chosen = np.argsort(random.random((trials, effects.size)), axis=1)[:, :rounds]
    return effects[chosen] * random.choice((-1.0, 1.0), chosen.shape)


def first_steady(pairs: np.ndarray, percent: float = 0.5) -> tuple[int, np.ndarray]:
    """Return how many first iterations are slower than their block's median by so much, and by how much each is."""
    profile = 100 * np.median(np.log(pairs / np.median(pairs, axis=-1, keepdims=True)), axis=(0, 1, 2))
    return int(np.argmax(profile <= percent)), profile
