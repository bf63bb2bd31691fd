"""Stored runs against each other: what is refused, and what several base runs let be said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from vggbench.errors import NotComparable, RequestError
from vggbench.gate.comparing import COMPARISON_LEVEL, _holm, compare
from vggbench.gate.records import Rule
from vggbench.gate.stored import StoredCell, StoredRun

ENVIRONMENT: Mapping[str, Any] = {
    "hardware": {"cpu_model": "A processor", "gpus": ["A GPU"], "memory_total_bytes": 2**34},
    "system": {"driver": "575.1", "kernel": "6.1", "python": "3.11.7"},
    "libraries": {"torch": "2.13", "onnxruntime-gpu": "1.30", "tensorrt": "11.0", "tensorrt-rtx": None},
    "variables": {},
    "commit": "c0ffee",
}
FACTS = {"device_name": "A processor", "plan.round_seconds": 2.5, "backends.torch": "2.13+cu130"}
STEADY = (1.0, 1.004, 0.998, 1.002, 0.997)  # five base runs of one cell, relative


def cell(latency_ms: float | None = 10.0, name: str = "a", **changes: Any) -> StoredCell:
    values = {"cell_id": name, "title": f"cell {name}", "latency_ms": latency_ms, "timing": "host"}
    return StoredCell(**{**values, **changes})


def run(*cells: StoredCell, name: str = "run", facts: Mapping[str, object] = FACTS, **changes: Any) -> StoredRun:
    """Return a run whose environment has these parts changed."""
    environment = {part: _changed(part, changes.get(part)) for part in ENVIRONMENT}
    return StoredRun(
        name=name,
        tool="vggbench",
        environment=environment,
        facts=facts,
        cells={found.cell_id: found for found in cells},
    )


def _changed(part: str, change: Any) -> Any:
    before = ENVIRONMENT[part]
    return {**before, **(change or {})} if isinstance(before, dict) else change or before


def bases(relative: Sequence[float] = STEADY, **changes: Any) -> list[StoredRun]:
    return [run(cell(10.0 * factor, **changes), name=f"base {number}") for number, factor in enumerate(relative)]


@pytest.mark.parametrize(
    ("latency_ms", "verdict", "code"),
    [(10.0, "PASS", 0), (11.0, "REGRESSED", 1), (9.0, "IMPROVED", 0)],
)
def test_a_candidate_is_held_against_one_more_base_run(latency_ms: float, verdict: str, code: int) -> None:
    report = compare(bases(), run(cell(latency_ms)), Rule())
    (found,) = report.verdicts
    assert (found.verdict, report.exit_code) == (verdict, code)
    mean = math.exp(np.mean(np.log(np.multiply(10.0, STEADY))))
    assert found.ratio == pytest.approx(latency_ms / mean)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.ratio < found.high
    assert found.base_ms == pytest.approx(mean)
    assert report.false_alarm_rate == COMPARISON_LEVEL


def test_runs_that_scatter_show_only_what_is_far_beyond() -> None:
    loud = [1 + 10 * (factor - 1) for factor in STEADY]
    (found,) = compare(bases(loud), run(cell(10.5)), Rule()).verdicts
    assert found.verdict == "INCONCLUSIVE"
    assert found.mde90 is not None
    assert found.mde90 > 0.05
    assert "more of them show no less: measure both sides in turn" in found.reasons[0]
    (far,) = compare(bases(loud), run(cell(15.0)), Rule()).verdicts
    assert far.verdict == "REGRESSED"


def test_it_says_how_many_base_runs_would_do() -> None:
    twice = [1 + 2 * (factor - 1) for factor in STEADY]
    (found,) = compare(bases(twice), run(cell(10.15)), Rule()).verdicts
    assert found.verdict == "INCONCLUSIVE"
    assert "base runs would show 3.0% nine times in ten" in found.reasons[0]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_too_few_base_runs_are_inconclusive_at_most_and_show_the_ratio(count: int) -> None:
    for latency_ms in (5.0, 10.0, 100.0):
        report = compare(bases(STEADY[:count]), run(cell(latency_ms)), Rule())
        (found,) = report.verdicts
        assert (found.verdict, found.low, report.exit_code) == ("INCONCLUSIVE", None, 3)
        assert found.ratio == pytest.approx(latency_ms / 10, rel=0.01)
        assert f"{count} base runs do not show" in report.notes[0]
    assert compare(bases(STEADY[:count]), run(cell()), Rule(), inconclusive_passes=True).exit_code == 0


def test_base_runs_count_that_nothing_stands_against() -> None:
    disturbed = run(cell(30.0, invalid=("contended: others were at work",)), name="disturbed")
    (found,) = compare([*bases(), disturbed], run(cell(10.0)), Rule()).verdicts
    assert found.verdict == "PASS"
    (found,) = compare([*bases()[:4], disturbed], run(cell(10.0)), Rule()).verdicts
    assert (found.verdict, found.reasons) == (
        "INCONCLUSIVE",
        ("4 usable base runs, 1 findings stand against others; 5 are needed",),
    )


@pytest.mark.parametrize(
    ("wrong", "code"), [("invalid", 3), ("outputs", 1), ("failed", 5)], ids=["conditions", "parity", "failure"]
)
def test_a_candidate_that_something_stands_against_is_invalid(wrong: str, code: int) -> None:
    report = compare(bases(), run(cell(20.0, **{wrong: ("the reason",)})), Rule())
    (found,) = report.verdicts
    assert (found.verdict, found.reasons, report.exit_code) == ("INVALID", ("head: the reason",), code)


def test_a_candidate_that_was_not_timed_is_invalid() -> None:
    (found,) = compare(bases(), run(cell(None)), Rule()).verdicts
    assert (found.verdict, found.reasons) == ("INVALID", ("head: it was not timed",))


def test_no_usable_base_run_is_invalid() -> None:
    (found,) = compare(bases(invalid=("throttled: hot",)), run(cell()), Rule()).verdicts
    assert (found.verdict, found.reasons, found.ratio) == ("INVALID", ("base: throttled: hot",), None)


def test_another_clock_is_not_comparable() -> None:
    (found,) = compare(bases(timing="cuda"), run(cell(timing="host")), Rule()).verdicts
    assert (found.verdict, found.reasons) == ("INVALID", ("base: timed by cuda in base and by host in head",))


def test_cells_on_one_side_are_found_and_never_green() -> None:
    report = compare(bases(), run(cell(), cell(name="new")), Rule())
    assert [(found.title, found.missing_in) for found in report.missing] == [("cell new", "base")]
    assert report.exit_code == 4
    partly = [*bases()[:4], run(name="empty")]
    report = compare(partly, run(cell()), Rule())
    assert (report.verdicts, report.missing[0].missing_in, report.exit_code) == ((), "base", 4)
    assert compare(bases(), run(), Rule()).missing[0].missing_in == "head"


def test_nothing_on_both_sides_is_nothing_to_judge() -> None:
    assert compare([run()], run(), Rule()).exit_code == 4


def test_holms_procedure() -> None:
    assert _holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert _holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert _holm({}) == {}


def test_the_declared_rate_holds_over_a_table() -> None:
    random = np.random.default_rng(9)
    alarms, trials = 0, 400
    for _ in range(trials):
        runs = [
            run(*(cell(float(value), name=str(number)) for number, value in enumerate(values)), name=str(place))
            for place, values in enumerate(10 * np.exp(0.02 * random.standard_normal((6, 8))))
        ]
        verdicts = compare(runs[:-1], runs[-1], Rule(tolerance=0.0)).verdicts
        alarms += any(found.verdict == "REGRESSED" for found in verdicts)
    assert alarms / trials <= COMPARISON_LEVEL + 3 * math.sqrt(COMPARISON_LEVEL * (1 - COMPARISON_LEVEL) / trials)
    assert alarms / trials >= COMPARISON_LEVEL / 3  # and something is found at all


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"system": {"driver": "580.1"}}, "driver"),
        ({"hardware": {"gpus": ["Another"]}}, "gpu"),
        ({"hardware": {"cpu_model": "Another"}}, "cpu"),
        ({"hardware": {"memory_total_bytes": 2**35}}, "memory"),
        ({"system": {"python": "3.12.1"}}, "python"),
        ({"system": {"kernel": "6.2"}}, "system"),
        ({"libraries": {"torch": "2.14"}}, "torch"),
        ({"libraries": {"onnxruntime-gpu": "1.31"}}, "onnxruntime"),
        ({"libraries": {"tensorrt-rtx": "1.7"}}, "tensorrt"),
        ({"variables": {"OMP_NUM_THREADS": "1"}}, "variables"),
        ({"variables": {"OMP_NUM_THREADS": "1"}}, "variables.OMP_NUM_THREADS"),
        ({"commit": "decaf"}, "commit"),
        ({"commit": "decaf"}, "vggbench"),
        ({"facts": {**FACTS, "plan.round_seconds": 5.0}}, "pace"),
        ({"facts": {**FACTS, "backends.torch": "2.13+cpu"}}, "torch"),
    ],
)
def test_what_is_under_test_is_named_or_refused(changes: Mapping[str, Any], named: str) -> None:
    head = run(cell(), name="head", **changes)
    with pytest.raises(NotComparable, match=r"base 0 and head differ in .* -> .*; name with --changed"):
        compare(bases(), head, Rule())
    report = compare(bases(), head, Rule(), [named])
    assert len(report.differences) == 1
    with pytest.raises(NotComparable):
        compare(bases(), head, Rule(), ["libraries.onnxruntime-gpu" if named == "torch" else "libraries.torch"])


def test_every_other_difference_is_listed() -> None:
    head = run(cell(), name="head", system={"driver": "580.1", "kernel": "6.2"}, libraries={"torch": "2.14"})
    with pytest.raises(NotComparable) as refused:
        compare(bases(), head, Rule(), ["driver"])
    assert str(refused.value).startswith(
        "base 0 and head differ in libraries.torch (2.13 -> 2.14), system.kernel (6.1 -> 6.2); "
    )
    assert refused.value.exit_code == 4
    assert set(compare(bases(), head, Rule(), ["driver", "torch", "system"]).differences) == {
        *("system.driver", "system.kernel", "libraries.torch")
    }


def test_base_runs_have_to_be_alike_whatever_is_under_test() -> None:
    mixed = [*bases(), run(cell(), name="other", system={"driver": "570.1"})]
    with pytest.raises(NotComparable, match="base runs have to be alike in everything"):
        compare(mixed, run(cell()), Rule(), ["driver"])


def test_a_backend_that_one_run_alone_has_is_a_matter_of_cells() -> None:
    report = compare(bases(), run(cell(), facts={**FACTS, "backends.openvino": "2026.4"}), Rule())
    assert report.exit_code == 0


def test_a_name_that_stands_for_nothing_is_refused() -> None:
    with pytest.raises(RequestError, match="--changed drivers stands for nothing in these runs; there are driver, gpu"):
        compare(bases(), run(cell()), Rule(), ["drivers"])


def test_what_was_named_and_is_the_same_is_said() -> None:
    assert compare(bases(), run(cell()), Rule(), ["driver"]).notes[0] == "nothing that --changed driver names differs"


def test_runs_of_two_tools_are_not_comparable() -> None:
    other = StoredRun(name="x.json", tool="pytest-benchmark", environment={}, facts={}, cells={})
    with pytest.raises(NotComparable, match=r"base 0 is a run of vggbench, x\.json one of pytest-benchmark"):
        compare(bases(), other, Rule())
