"""What stands against judging a cell's rounds, from records that never took place."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import fake_cell
from tests.results.made import block, failed_parity, prepared, session
from vggbench.gate.decide import judge
from vggbench.gate.environments import SIDES
from vggbench.gate.measured import cell_effects
from vggbench.gate.pairs import Draw, PairedRound, SideRecord, draw_round
from vggbench.gate.records import CellEffects, Rule
from vggbench.measure.conditions import Conditions
from vggbench.measure.gpu_state import GpuState
from vggbench.measure.records import Failure

CELL = fake_cell()
RULE = Rule()
PREPARED = {side: prepared(CELL) for side in SIDES}
LEADS = ("base", "head", "head", "base")
Change = Callable[[str, int], dict[str, Any]]
QUIET = Conditions(
    wall_s=0.1, cpus=2, own_cpu_s=0.1, parent_cpu_s=0.0, busy_s=0.1, steal_s=0.0, throttled_s=0.0, clock_mhz=2000.0
)


def side(latency_ms: float, number: int, conditions: Conditions | None = QUIET, **changes: Any) -> SideRecord:
    level = latency_ms * (1 + 0.001 * (number % 3))
    cold = [3 * level] * RULE.dropped_iterations
    timed = [replace(block("compute", *cold, level, level, 50 * level), conditions=conditions) for _ in LEADS]
    warmup = block("warmup", 5 * level, stop_reason=changes.pop("warmup", "steady"))
    return SideRecord(session=session(CELL, warmup, *timed, **changes))


def rounds(change: Change = lambda _side, _number: {}, *, head_ms: float = 1.0, **whole: Any) -> list[PairedRound]:
    return [
        PairedRound(
            cell_id=CELL.id,
            stage=1,
            round=number,
            started_at="2026-01-02T03:04:05+00:00",
            seconds=1.0,
            draw=Draw(starts=("base", "head"), leads=LEADS),
            base=side(1.0, number, **change("base", number)),
            head=side(head_ms, number + 1, **change("head", number)),
            **{"difference": 0.0, "identical": True, **whole},
        )
        for number in range(RULE.rounds)
    ]


def effects(records: list[PairedRound], **changes: Any) -> CellEffects:
    return cell_effects(CELL, {**PREPARED, **changes}, records, RULE)


def on(name: str, **changes: Any) -> Change:
    """Change the conditions of one side's blocks."""
    return lambda side, _number: {"conditions": replace(QUIET, **changes)} if side == name else {}


def test_first_iterations_do_not_count_and_a_block_is_its_median():
    found = effects(rounds(head_ms=1.1))
    assert len(found.rounds) == 7
    assert {len(pairs) for pairs in found.rounds} == {4}
    assert all(effect == pytest.approx(0.0953, abs=0.0021) for pairs in found.rounds for effect in pairs)
    assert (found.invalid, found.outputs, found.failed, found.confirmation) == ((), (), (), ())
    assert found.base_ms == pytest.approx(1.001)
    assert found.head_ms == pytest.approx(1.1011)


def test_rounds_are_in_the_order_of_their_numbers_and_stages_apart():
    records = [replace(record, stage=2) if record.round > 3 else record for record in rounds()]
    found = effects(records[::-1])
    assert (len(found.rounds), len(found.confirmation)) == (4, 3)
    assert found.rounds == effects(records).rounds


def test_a_request_of_no_time_counts_as_a_nanosecond():
    still = SideRecord(session=session(CELL, block("warmup", 1.0), *[block("compute", *[0.0] * 8) for _ in LEADS]))
    found = effects([replace(record, base=still, head=still) for record in rounds()])
    assert found.rounds == ((0.0,) * 4,) * 7


@pytest.mark.parametrize("name", SIDES)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"busy_s": 0.12}, r"other processes had [\d.]+ % of base's time and [\d.]+ % of head's"),
        ({"steal_s": 0.01}, "the hypervisor took"),
        ({"throttled_s": 0.01}, "the CPU quota stopped"),
        ({"clock_mhz": 1500.0}, r"base ran at \d+ MHz, head at \d+ MHz; fix the clock"),
    ],
)
def test_what_disturbs_one_side_alone_makes_the_cell_invalid(name: str, changes: dict[str, float], words: str):
    records = rounds(on(name, **changes), head_ms=1.2)
    (reason,) = effects(records).invalid
    assert re.search(words, reason), reason
    (verdict,) = judge([effects(records)], RULE)
    assert (verdict.verdict, verdict.exit_code) == ("INVALID", 3)


@pytest.mark.parametrize("changes", [{"busy_s": 0.12}, {"steal_s": 0.01}, {"throttled_s": 0.01}, {"clock_mhz": 1500.0}])
def test_what_disturbs_both_sides_alike_does_not(changes: dict[str, float]):
    assert effects(rounds(lambda _side, _number: {"conditions": replace(QUIET, **changes)})).invalid == ()


def test_a_little_more_on_one_side_is_how_two_samples_differ():
    records = rounds(lambda side, _number: {"conditions": replace(QUIET, busy_s=0.14 if side == "base" else 0.15)})
    assert effects(records).invalid == ()


def test_a_gpu_that_slowed_one_side_alone_makes_the_cell_invalid():
    slowed = GpuState(
        sm_clock_mhz=1500, memory_clock_mhz=None, power_w=None, temperature_c=None, slowdowns=("power cap",)
    )
    states = {"base": replace(slowed, slowdowns=()), "head": slowed}
    records = rounds(lambda side, _number: {"conditions": replace(QUIET, gpu=states[side])})
    (reason,) = effects(records).invalid
    assert reason.startswith("the GPU held its clocks down for 0.0 % of base's time and 100.0 % of head's")


def test_what_a_system_does_not_tell_is_no_reason():
    assert effects(rounds(lambda _side, _number: {"conditions": None})).invalid == ()


def test_warm_ups_that_never_got_steady_make_it_invalid():
    def unsettled(limit: int) -> Change:
        return lambda side, number: {"warmup": "limit" if side == "head" and number < limit else "steady"}

    assert effects(rounds(unsettled(3))).invalid == ()
    (reason,) = effects(rounds(unsettled(4))).invalid
    assert reason.startswith("head: 4 of 7 warm-ups were not seen to get steady")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"timeline": "cuda"}, "base was timed on host, head cuda: their times are not comparable"),
        ({"pinned_cpus": (1,)}, "base was kept to the CPUs None, head (1,)"),
    ],
)
def test_sides_that_were_timed_otherwise_are_not_comparable(changes: dict[str, Any], words: str):
    found = effects(rounds(lambda side, _number: changes if side == "head" else {}))
    assert any(words in reason for reason in found.invalid), found.invalid


def test_outputs_are_held_against_the_reference_and_against_each_other():
    wrong = effects(rounds(lambda side, _: {"parity": failed_parity()} if side == "base" else {}))
    assert wrong.outputs == ("base: the error is 0.5 of the signal",)
    apart = effects(rounds(difference=2e-4, identical=False))
    assert apart.outputs == ("head's outputs are 0.0002 of the signal away from base's; the tolerance is 0.0001",)
    assert effects(rounds(difference=5e-5, identical=False)).outputs == ()
    assert [found.exit_code for found in judge([wrong, replace(apart, cell_id="b")], RULE)] == [1, 1]


def test_files_that_are_not_those_planned_are_a_failure():
    other = {**PREPARED["head"].artefact, "sha256": "ff" * 32}
    found = effects(rounds(), head=prepared(CELL, artefact=other))
    assert found.failed == ("head: the files timed, verified and planned are not the same; export again",)


def test_a_side_that_died_is_a_failure_and_its_round_does_not_count():
    records = rounds()
    records[-1] = replace(
        records[-1], head=SideRecord(session=None, failure=Failure(stage="block", status="failed", reason="killed"))
    )
    found = effects(records)
    assert found.failed == ("head: round 7 of stage 1 at block: killed",)
    assert len(found.rounds) == 6


def test_each_side_leads_half_of_the_pairs_in_an_order_of_the_round():
    draws = [draw_round(3, 1, number, "cell", 8) for number in range(40)]
    assert {draw.leads.count("base") for draw in draws} == {4}
    assert len({draw.leads for draw in draws}) > 20
    firsts = [draw.starts[0] for draw in draws]
    assert all({firsts[number], firsts[number + 1]} == {"base", "head"} for number in range(0, 40, 2))
    assert len({tuple(firsts[number : number + 2]) for number in range(0, 40, 2)}) == 2
    assert draws[5] == draw_round(3, 1, 5, "cell", 8)
    assert draws[5] != draw_round(4, 1, 5, "cell", 8)
    assert len(draw_round(3, 1, 0, "cell", 3).leads) == 3
