"""The declared rule, and the code that a report ends in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import fake_cell
from vggbench.errors import CellError, CheckFailed, Inconclusive, NothingToJudge, RequestError
from vggbench.gate.records import CellVerdict, GateReport, MissingCell, Rule, VerdictName, identity_of

CODES: dict[str, int] = {"REGRESSED": 1, "INVALID": 3, "INCONCLUSIVE": 3, "IMPROVED": 0, "PASS": 0}


def verdict(name: VerdictName, code: int | None = None) -> CellVerdict:
    return CellVerdict(
        cell_id=name, title=name, identity={}, verdict=name, exit_code=CODES[name] if code is None else code
    )


def report(*verdicts: CellVerdict, **changes: Any) -> GateReport:
    values: dict[str, Any] = {"kind": "gate", "base": "b", "head": "h", "rule": Rule(), "verdicts": verdicts}
    return GateReport(**{**values, **changes})


def test_the_shipped_rule_declares_one_percent() -> None:
    assert Rule().false_alarm_rate <= 0.01
    assert [count for count, _ in Rule().stages] == [7, 8]
    assert all(level <= 0.10 for _, level in Rule().stages)


def test_a_single_stage_has_the_whole_gates_level() -> None:
    rule = Rule(rounds=12, confirmation_rounds=0)
    assert rule.stages == ((12, Rule().false_alarm_rate),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tolerance": -0.01}, "the tolerance is -0.01"),
        ({"tolerance": 3.0}, "the tolerance is 3; it must be a share"),
        ({"budget": 0.01}, "the budget is 0.01; it must be more than the tolerance"),
        ({"budget": 3.0}, "the budget is 3"),
        ({"rounds": 3}, "3 rounds can never reach a level of 0.087: the smallest p-value is 1/8"),
        ({"confirmation_rounds": 2}, "2 rounds can never reach"),
        ({"rounds": 6, "confirmation_rounds": 0}, "6 rounds can never reach a level of 0.0077"),
        ({"levels": (0.1, 0.0)}, "the levels are"),
        ({"dropped_iterations": -1}, "-1 iterations to drop"),
        ({"tolerance": float("nan")}, "the tolerance is nan"),
    ],
)
def test_a_rule_that_decides_nothing_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Rule(**changes)


@pytest.mark.parametrize(
    ("names", "code", "error"),
    [
        (("PASS", "IMPROVED"), 0, type(None)),
        (("PASS", "REGRESSED", "INVALID", "INCONCLUSIVE"), 1, CheckFailed),
        (("PASS", "INCONCLUSIVE"), 3, Inconclusive),
        (("PASS", "INVALID"), 3, Inconclusive),
        ((), 4, NothingToJudge),
    ],
)
def test_the_worst_verdict_decides(names: tuple[VerdictName, ...], code: int, error: type) -> None:
    found = report(*map(verdict, names))
    assert found.exit_code == code
    assert isinstance(found.error(), error)
    assert getattr(found.error(), "exit_code", 0) == code


def test_inconclusive_may_pass_and_invalid_never_does() -> None:
    doubtful = report(verdict("PASS"), verdict("INCONCLUSIVE"), inconclusive_passes=True)
    assert (doubtful.exit_code, doubtful.error()) == (0, None)
    invalid = replace(doubtful, verdicts=(*doubtful.verdicts, verdict("INVALID")))
    assert invalid.exit_code == 3
    assert str(invalid.error()) == "1 invalid of 3 cells; their reasons are above"


def test_a_missing_cell_is_never_green() -> None:
    found = report(verdict("PASS"), missing=(MissingCell("x", "vgg11 x", "head"),))
    assert found.exit_code == 4
    assert str(found.error()) == "1 cells are on one side only; measure the same plan on both"


def test_no_cell_at_all_is_never_green() -> None:
    assert str(report(inconclusive_passes=True).error()).startswith("no cell is on both sides")


def test_a_failed_cell_and_other_outputs_have_their_codes() -> None:
    assert report(verdict("INVALID", 5), verdict("PASS")).exit_code == 5
    assert isinstance(report(verdict("INVALID", 5), verdict("INCONCLUSIVE")).error(), CellError)
    wrong = report(verdict("INVALID", 1), verdict("REGRESSED"), verdict("INVALID", 5))
    assert wrong.exit_code == 1
    assert str(wrong.error()) == "1 slower and 1 with other outputs of 3 cells; their reasons are above"


def test_identity_has_a_rows_names_and_texts() -> None:
    found = identity_of(fake_cell(latency_ms="2"))
    assert found["backend"] == "fake"
    assert "latency_ms=2" in str(found["options"])
    assert (found["batch_size"], found["threads"], found["replica"]) == (2, 2, None)
