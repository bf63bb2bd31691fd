from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggbench.backends.base import Evidence, LayerEvidence
from vggbench.measure.validity import (
    STATUSES,
    STRICT_FLAGS,
    Finding,
    gravest,
    is_of_what_was_asked,
    judge_evidence,
    precision_shares,
)

MACS = 1000


def layer(macs: int, precision: str = "fp32") -> LayerEvidence:
    return LayerEvidence(name="features.0", operation="Conv", precision=precision, placement="cpu", macs=macs)


def evidence(**changes: Any) -> Evidence:
    values: dict[str, Any] = {
        "device": "cpu",
        "threads": 2,
        "batch_size": 3,
        "layers": (layer(1200), layer(1800)),
        "placements": {"cpu": 2},
    }
    return Evidence(**{**values, **changes})


def judged(found: Evidence) -> list[Finding]:
    return judge_evidence(found, precision="fp32", device="cpu", batch_size=3, threads=2, macs=MACS)


def test_evidence_of_what_was_asked_has_no_findings():
    assert judged(evidence()) == []


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"layers": (layer(2849),)}, "precision_mismatch", "covers 95% of the MACs"),
        ({"layers": (layer(2700), layer(300, "bf16"))}, "precision_mismatch", "90% in fp32, 10% in bf16"),
        ({"placements": {"cpu": 1, "gpu": 1}}, "fallback", "1 nodes on cpu, 1 nodes on gpu"),
        ({"placements": {}}, "fallback", "nowhere"),
        ({"device": "gpu"}, "fallback", "(gpu) ran"),
        ({"batch_size": 2}, "failed", "batch 3 was asked, batch 2 ran"),
        ({"threads": 4}, "fallback", "2 threads were asked, the backend used 4"),
    ],
)
def test_each_departure_is_found(changes: dict[str, Any], status: str, words: str):
    (finding,) = judged(evidence(**changes))
    assert finding.status == status
    assert words in finding.reason


def test_no_evidence_proves_nothing():
    findings = judged(evidence(layers=()))
    assert [finding.status for finding in findings] == ["precision_mismatch", "precision_mismatch"]
    assert "covers 0%" in findings[0].reason
    assert "ran nothing" in findings[1].reason


def test_a_network_without_products_is_not_proven_by_dividing_by_zero():
    nothing = evidence(layers=())
    findings = judge_evidence(nothing, precision="fp32", device="cpu", batch_size=3, threads=2, macs=0)
    assert "ran nothing" in findings[0].reason


def test_the_first_and_the_last_layer_may_be_a_backends_own():
    assert judged(evidence(layers=(layer(2850), layer(150, "bf16")))) == []


@given(st.lists(st.tuples(st.integers(1, 10**12), st.sampled_from(["fp32", "bf16", "tf32"])), max_size=20))
def test_shares_add_up_and_the_largest_is_first(parts: list[tuple[int, str]]):
    shares = precision_shares(evidence(layers=tuple(layer(macs, precision) for macs, precision in parts)))
    assert set(shares) == {precision for _, precision in parts}
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert not parts or sum(shares.values()) == pytest.approx(1)


def test_the_statuses_are_those_of_the_table():
    assert STATUSES[0] == "failed"
    assert STATUSES[-1] == "ok"
    assert len(set(STATUSES)) == 13


def test_nothing_found_is_ok():
    assert gravest([]) == "ok"


@given(st.lists(st.sampled_from(STATUSES), min_size=1))
def test_the_gravest_counts_whatever_the_order(statuses: list[str]):
    assert gravest([Finding(status, "") for status in statuses]) == min(statuses, key=STATUSES.index)


@pytest.mark.parametrize("status", STATUSES)
def test_noise_leaves_a_figure_that_of_what_was_asked(status: str):
    wrong = {"failed", "timeout", "unsupported", "parity_failed", "precision_mismatch", "fallback"}
    assert is_of_what_was_asked(status) == (status not in wrong)


@pytest.mark.parametrize(
    ("name", "strict"), [(name, value) for name, values in STRICT_FLAGS.items() for value in sorted(values)]
)
def test_a_setting_that_keeps_products_strict_is_no_finding(name: str, strict: str):
    assert judged(evidence(flags={name: strict, "version": "2"})) == []


@pytest.mark.parametrize("name", STRICT_FLAGS)
def test_a_setting_that_lets_products_be_less_is_another_precision(name: str):
    (finding,) = judged(evidence(flags={name: "bf16"}))
    assert finding.status == "precision_mismatch"
    assert f"{name}=bf16 lets products be less; unset" in finding.reason


def test_what_is_asked_in_bf16_may_be_bf16():
    found = evidence(layers=(layer(3000, "bf16"),), flags={"float32_matmul_precision": "medium"})
    assert judge_evidence(found, precision="bf16", device="cpu", batch_size=3, threads=2, macs=MACS) == []
