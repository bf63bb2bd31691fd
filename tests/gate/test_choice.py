"""Cells of two sides, whose backends are not the same."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import fake_cell, known, missing
from vggbench.gate.choice import BothSides, either
from vggbench.measure.client import BackendProbe

BF16 = fake_cell(precision="bf16")


def both_sides(monkeypatch: pytest.MonkeyPatch, base: BackendProbe, head: BackendProbe) -> tuple[BothSides, list[Any]]:
    asked: list[Any] = []
    found = {"b": base, "h": head}

    def probe(name: str, device: str, start: Any) -> BackendProbe:
        asked.append((name, device, start))
        return found[start]

    monkeypatch.setattr("vggbench.gate.choice.probe", probe)
    sides: Any = {"base": "b", "head": "h"}
    return BothSides(sides), asked


def test_a_backend_is_there_if_one_side_has_it():
    here, gone = known("fake"), missing("fake")
    assert either(here, gone) == here
    assert either(gone, here) == here
    assert either(gone, missing("fake")) == gone


def test_a_precision_is_native_if_it_is_on_one_side():
    base = known("fake", {"fp32": "", "bf16": "no bf16 in base", "int8": "no int8 in base"})
    head = known("fake", {"fp32": "", "bf16": "", "int8": "no int8 in head"})
    assert either(base, head).precisions == {"fp32": "", "bf16": "", "int8": "no int8 in head"}
    assert either(head, base).precisions == {"fp32": "", "bf16": "", "int8": "no int8 in base"}


@pytest.mark.parametrize("gone", ["base", "head"])
def test_a_backend_that_one_side_has_not_is_lacking_there(monkeypatch: pytest.MonkeyPatch, gone: str):
    probes = {"base": known("fake"), "head": known("fake"), gone: missing("fake")}
    probe, asked = both_sides(monkeypatch, probes["base"], probes["head"])
    assert probe("fake", "cpu").available
    assert probe.lack(BF16) == {gone: "fake is not installed"}
    probe("fake", "cpu")
    assert asked == [("fake", "cpu", "b"), ("fake", "cpu", "h")]  # each once: it takes seconds


def test_a_precision_that_one_side_has_not_is_lacking_there(monkeypatch: pytest.MonkeyPatch):
    probe, _ = both_sides(monkeypatch, known("fake"), known("fake", {"fp32": "", "bf16": "no bf16 any more"}))
    probe("fake", "cpu")
    assert probe.lack(BF16) == {"head": "no bf16 any more"}
    assert probe.lack(fake_cell()) == {}


def test_what_both_sides_have_or_neither_is_lacking_on_none(monkeypatch: pytest.MonkeyPatch):
    probe, _ = both_sides(monkeypatch, known("fake", {"fp32": ""}), known("fake", {"fp32": "", "bf16": "none"}))
    probe("fake", "cpu")
    assert probe.lack(BF16) == {}
    assert probe.lack(fake_cell()) == {}
