"""What disturbs a measurement is never called a slowdown: paired rounds on machines that drift, jump and interrupt."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from tests.gate.made import RULE, as_rounds, effects
from vggbench.gate.decide import flagged, judge
from vggbench.gate.effects import block_effects
from vggbench.gate.records import CellEffects, GateReport, MissingCell

GATES = 100
BLOCKS, ITERATIONS = 8, 20
Times = np.ndarray  # (sides, blocks, iterations) of one round, in the order in which a machine would give them


def gate(random: np.random.Generator, machine: Callable[[np.random.Generator, int, Times], Times]) -> CellEffects:
    """Measure both stages of a cell that is the same thing on both sides: a coin says which is called head."""
    stages = []
    for count in (RULE.rounds, RULE.confirmation_rounds):
        rounds = []
        for number in range(count):
            quiet = 1 + 0.01 * random.standard_normal((2, BLOCKS, ITERATIONS))
            first, second = machine(random, number, quiet)
            base, head = (first, second) if random.random() < 0.5 else (second, first)
            rounds.append(block_effects(base, head, dropped=RULE.dropped_iterations))
        stages.append(tuple(rounds))
    return effects(rounds=stages[0], confirmation=stages[1])


def drifts(random: np.random.Generator, number: int, times: Times) -> Times:
    """The machine gets slower all the time, by 20 % over a round."""
    place = 2 * np.arange(BLOCKS)[np.newaxis, :, np.newaxis] + np.arange(2)[:, np.newaxis, np.newaxis]
    return times * (1 + 0.1 * number) * (1 + 0.2 * place / (2 * BLOCKS))


def has_modes(random: np.random.Generator, number: int, times: Times) -> Times:
    """Every third process is slower by a half for life."""
    return times * np.where(random.random((2, 1, 1)) < 0.3, 1.5, 1.0)


def orders(random: np.random.Generator, number: int, times: Times) -> Times:
    """The side that goes first is faster by 4 %, all its life."""
    return times * np.array([1.0, 1.04]).reshape(2, 1, 1)


def interrupts(random: np.random.Generator, number: int, times: Times) -> Times:
    """Every tenth block is stopped for a while, some for long."""
    return times * np.where(random.random((2, BLOCKS, 1)) < 0.1, 1 + random.exponential(3, (2, BLOCKS, 1)), 1.0)


def cools(random: np.random.Generator, number: int, times: Times) -> Times:
    """The first iterations of a block find cold caches, those of the second side colder ones."""
    slower = np.array([0.2, 0.6]).reshape(2, 1, 1) * np.exp(-np.arange(ITERATIONS) / 1.2)
    return times * (1 + slower)


@pytest.mark.parametrize("machine", [drifts, has_modes, orders, interrupts, cools])
def test_a_disturbed_machine_is_not_a_slowdown(machine) -> None:
    """At most 1 % of gates of the same thing may say so; of a hundred, three are beyond what that lets happen."""
    random = np.random.default_rng(11)
    found = [gate(random, machine) for _ in range(GATES)]
    alarmed = [cell for cell in found if flagged([cell], RULE)]
    assert len(alarmed) < GATES / 5
    verdicts = [judge([cell], RULE)[0].verdict for cell in alarmed]
    assert verdicts.count("REGRESSED") <= 2


def test_an_order_that_is_not_drawn_would_be_one() -> None:
    """The control: the same machine, with head always second, alarms every gate. So the tests above can fail."""
    random = np.random.default_rng(12)
    quiet = 1 + 0.01 * random.standard_normal((RULE.rounds, 2, BLOCKS, ITERATIONS))
    rounds = tuple(block_effects(*orders(random, 0, times), dropped=RULE.dropped_iterations) for times in quiet)
    assert flagged([effects(rounds=rounds)], RULE) == ("a",)


@pytest.mark.parametrize(
    "reason", ["head: the cgroup's CPU quota stopped it for 80 ms", "base: the hypervisor gave 9 % to other guests"]
)
def test_a_side_that_was_stopped_or_robbed_is_invalid(reason: str) -> None:
    slow = effects("slow", 0.3, 0.3, invalid=(reason,))
    assert flagged([slow], RULE) == ()
    (found,) = judge([slow], RULE)
    assert (found.verdict, found.reasons) == ("INVALID", (reason,))


def test_a_cell_that_lost_a_round_is_invalid_and_others_go_on() -> None:
    lost = effects("lost", rounds=as_rounds([0.5] * 7)[:-1])
    found = judge([lost, effects("same")], RULE)
    assert [cell.verdict for cell in found] == ["INVALID", "PASS"]


def test_no_number_is_no_slowdown() -> None:
    rounds = (*as_rounds([0.5] * 6), (math.nan,))
    (found,) = judge([effects(rounds=rounds)], RULE)
    assert found.verdict == "INVALID"


@pytest.mark.parametrize("side", ["base", "head"])
def test_a_cell_that_one_side_lacks_is_never_slower_and_never_green(side) -> None:
    report = GateReport(
        kind="gate",
        base="base",
        head="head",
        rule=RULE,
        verdicts=judge([effects()], RULE),
        missing=(MissingCell("b", "cell b", side),),
        inconclusive_passes=True,
    )
    assert [cell.verdict for cell in report.verdicts] == ["PASS"]
    assert report.exit_code == 4
