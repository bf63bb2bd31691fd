"""What a paired gate declares of its rounds, and what one of them leaves: a fresh process of each side, in turn.

Plain data; standard library only.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vggbench.gate.environments import SIDES
from vggbench.gate.records import Side
from vggbench.measure.records import Failure, SessionRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPace:
    """How long each part of a paired round is, declared before the first.

    Attributes:
        pairs: of blocks in a round.
        block_s: seconds of samples in a block, those that do not count included.
        least_kept: samples of a block that count, at least.
        rest_most_s: how long a side's threads are waited for after its block, until they sleep.
        timeout_s: how much longer than it measures a worker may take to answer before it is killed.
    """

    pairs: int = 8  # as in the recorded pairs that the rule's power was found on
    block_s: float = 0.1  # 20 requests of 5 ms; long against a time slice, short against what moves a machine's speed
    least_kept: int = 3  # whose median ignores one outlier
    warmup_least_s: float = 0.2
    warmup_most_s: float = 4.0  # sixteen requests of a quarter second
    rest_most_s: float = 0.2  # ten times what a library was seen to need
    timeout_s: float = 600.0  # the largest variant, batch 64, on one slow core stays under it


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What is drawn at random for a round: which side's process starts first, and which side leads each pair."""

    starts: tuple[Side, Side]
    leads: tuple[Side, ...]


def draw_round(seed: int, stage: int, number: int, cell_id: str, pairs: int) -> Draw:
    """Return a round's draw: the same for the same seed, so that an interrupted gate goes on as it was declared.

    Each side starts first in one of every two rounds, and leads half of a round's pairs, so that whatever comes of
    being first (about 1 %: benchmarks/README.md) is no difference between the sides.
    """
    two_rounds = random.Random(f"{seed}/{stage}/{number // 2}/{cell_id}/starts")  # noqa: S311 - an order, not a secret
    starts = in_turn(two_rounds.sample(SIDES, 2)[number % 2])
    chance = random.Random(f"{seed}/{stage}/{number}/{cell_id}")  # noqa: S311 - likewise
    leads = [*SIDES] * (pairs // 2) + [chance.choice(SIDES)] * (pairs % 2)
    chance.shuffle(leads)
    return Draw(starts=starts, leads=tuple(leads))


def in_turn(lead: Side) -> tuple[Side, Side]:
    """Return both sides, the leading one first."""
    return ("base", "head") if lead == "base" else ("head", "base")


@dataclass(frozen=True, slots=True, kw_only=True)
class SideRecord:
    """What one side's process did in a round.

    Attributes:
        session: its warm-up, then its block of each pair, in order; None where it came to no session.
        failure: how it ended early; None where it did not.
    """

    session: SessionRecord | None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRound:
    """One line of a gate's journal.

    Attributes:
        stage: 1, or 2 for the confirmation of what the first stage flagged.
        round: its number in the stage, from 0.
        draw: in which order it was made.
        difference: of head's verified outputs from base's, relative to what the inputs change in base's; None where
            there are not both, or base's have no signal.
        identical: whether they are the same to the bit; None likewise.
    """

    cell_id: str
    stage: int
    round: int
    started_at: str
    seconds: float
    draw: Draw
    base: SideRecord
    head: SideRecord
    difference: float | None = None
    identical: bool | None = None

    @property
    def sides(self) -> Mapping[Side, SideRecord]:
        """Both sides by name."""
        return {"base": self.base, "head": self.head}

    @property
    def failure(self) -> Failure | None:
        """How a side ended early, base's first; None where both came to their end."""
        return self.base.failure or self.head.failure

    @property
    def whole(self) -> bool:
        """Whether both sides timed every block."""
        return all(_blocks(side) == len(self.draw.leads) for side in self.sides.values())

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the journal."""
        return asdict(self)


def _blocks(side: SideRecord) -> int:
    if side.session is None or side.failure is not None:
        return 0
    return len(side.session.samples("compute"))
