"""Every verdict, and what it takes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.gate.made import AGAIN, QUIET, RULE, as_rounds, effects
from vggbench.gate.decide import flagged, judge
from vggbench.gate.records import Rule


def test_a_slowdown_is_flagged_then_confirmed() -> None:
    cells = [effects("slow", 0.05), effects("same")]
    assert flagged(cells, RULE) == ("slow",)
    slow, same = judge([effects("slow", 0.05, 0.04), effects("same")], RULE)
    assert (slow.verdict, slow.exit_code, slow.flagged, slow.rounds) == ("REGRESSED", 1, True, 15)
    assert (same.verdict, same.exit_code, same.flagged, same.rounds) == ("PASS", 0, False, 7)
    assert slow.reasons == ("both stages find it slower than the tolerance of 0.01",)


def test_a_flagged_cells_figures_are_of_its_fresh_rounds_alone() -> None:
    (slow,) = judge([effects("slow", 0.05, 0.04)], RULE)
    assert slow.ratio == pytest.approx(math.exp(0.04 + np.median(AGAIN)), abs=1e-3)
    assert slow.low is not None
    assert slow.high is not None
    assert slow.low < slow.ratio < slow.high < math.exp(0.05)


def test_what_is_not_confirmed_is_not_slower() -> None:
    (once,) = judge([effects("once", 0.05, 0.0)], RULE)
    assert (once.verdict, once.flagged) == ("PASS", True)


def test_slower_by_less_than_the_tolerance_passes() -> None:
    (cell,) = judge([effects("little", 0.005)], RULE)
    assert cell.verdict == "PASS"


def test_faster_is_improved_and_takes_no_second_stage() -> None:
    cells = [effects("fast", -0.05), effects("same")]
    assert flagged(cells, RULE) == ()
    fast, same = judge(cells, RULE)
    assert (fast.verdict, fast.exit_code, same.verdict) == ("IMPROVED", 0, "PASS")


def test_what_is_not_shown_is_inconclusive_and_says_how_many_rounds_it_takes() -> None:
    loud = tuple(20 * effect for effect in QUIET)
    (cell,) = judge([effects(rounds=as_rounds(loud))], RULE)
    assert (cell.verdict, cell.exit_code) == ("INCONCLUSIVE", 3)
    assert cell.mde90 is not None
    assert cell.mde90 > RULE.budget
    assert cell.rounds_needed is not None
    assert cell.rounds_needed > RULE.rounds
    (reason,) = cell.reasons
    assert f"give {cell.rounds_needed} rounds" in reason
    assert "the budget is 3.0%" in reason


def test_a_wider_budget_passes_what_a_narrow_one_does_not() -> None:
    cell = effects(rounds=as_rounds([3 * effect for effect in QUIET]))
    verdicts = [judge([cell], Rule(tolerance=0.001, budget=budget))[0].verdict for budget in (0.005, 0.02)]
    assert verdicts == ["INCONCLUSIVE", "PASS"]


@pytest.mark.parametrize(
    ("name", "code"), [("invalid", 3), ("outputs", 1), ("failed", 5)], ids=["conditions", "parity", "failure"]
)
def test_what_stands_against_a_cell_makes_it_invalid_whatever_its_rounds_say(name: str, code: int) -> None:
    slow = effects("slow", 0.5, **{name: ("the reason",)})
    assert flagged([slow], RULE) == ()
    (found,) = judge([slow], RULE)
    assert (found.verdict, found.exit_code, found.reasons[0]) == ("INVALID", code, "the reason")


def test_an_invalid_cell_takes_no_other_along() -> None:
    cells = [effects("same"), effects("slow", 0.05), effects("dead", rounds=(), failed=("head: it crashed",))]
    assert flagged(cells, RULE) == ("slow",)
    found = judge([cells[0], effects("slow", 0.05, 0.05), cells[2]], RULE)
    assert [cell.verdict for cell in found] == ["PASS", "REGRESSED", "INVALID"]
    assert found[2].reasons == ("head: it crashed",)
    assert found[2].ratio is None


def test_a_cell_that_turns_out_invalid_when_confirmed_changes_nobody_elses_stage() -> None:
    cells = [effects("slow", 0.05), effects("same")]
    assert flagged(cells, RULE) == ("slow",)
    found = judge([effects("slow", 0.05, 0.05, invalid=("head was throttled",)), cells[1]], RULE)
    assert [cell.verdict for cell in found] == ["INVALID", "PASS"]


@pytest.mark.parametrize("count", [0, 6, 8])
def test_another_number_of_rounds_than_declared_is_invalid(count: int) -> None:
    (found,) = judge([effects(rounds=as_rounds((*QUIET, 0.5))[:count])], RULE)
    assert found.verdict == "INVALID"
    assert found.reasons == (f"{count} rounds were measured, 7 were declared",)


def test_a_flagged_cell_without_its_fresh_rounds_is_invalid() -> None:
    (found,) = judge([effects("slow", 0.05)], RULE)
    assert found.verdict == "INVALID"
    assert found.reasons == ("to confirm a slowdown: 0 rounds were measured, 8 were declared",)


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
def test_a_round_without_a_number_is_never_a_slowdown(lost: float) -> None:
    rounds = (*as_rounds([0.5] * 6), (0.5, lost))
    assert flagged([effects(rounds=rounds)], RULE) == ()
    (found,) = judge([effects(rounds=rounds)], RULE)
    assert (found.verdict, found.reasons) == ("INVALID", ("round 7 has an effect that is not a number",))


def test_too_few_rounds_for_an_interval_never_pass() -> None:
    few = Rule(rounds=5)
    (same,) = judge([effects(rounds=as_rounds(QUIET[:5]))], few)
    assert (same.verdict, same.exit_code) == ("INVALID", 3)
    assert same.reasons == ("5 rounds have no 95 % interval; 6 are needed",)


def test_a_single_stage_decides_at_the_whole_level() -> None:
    rule = Rule(rounds=8, confirmation_rounds=0)
    slow = effects("slow", rounds=as_rounds([0.05 + effect for effect in AGAIN]))
    assert flagged([slow], rule) == ()
    (found,) = judge([slow], rule)
    assert (found.verdict, found.flagged) == ("REGRESSED", False)


def test_nothing_is_judged_of_nothing() -> None:
    assert flagged([], RULE) == ()
    assert judge([], RULE) == ()


def test_rounds_that_are_exactly_alike_are_not_slower() -> None:
    (found,) = judge([effects(rounds=as_rounds([0.0] * 7))], RULE)
    assert (found.verdict, found.ratio, found.low, found.high) == ("PASS", 1.0, 1.0, 1.0)


def test_the_smallest_found_slowdown_grows_with_noise_and_shrinks_with_rounds() -> None:
    def mde(scale: float, rule: Rule = RULE, rounds: tuple[float, ...] = QUIET) -> float:
        (found,) = judge([effects(rounds=as_rounds([scale * effect for effect in rounds]))], rule)
        assert found.mde90 is not None
        return found.mde90

    assert RULE.tolerance < mde(1) < mde(4)
    assert mde(4, Rule(rounds=14, confirmation_rounds=16), QUIET * 2) < mde(4)
