"""`vggbench verify` on the fake backend."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine, Said
from tests.fakes import ARGUMENTS
from vggbench.backends.base import Support
from vggbench.backends.fake import FakeBackend
from vggbench.parity.bisect import Bisection, Depth
from vggbench.results.columns import COLUMNS

pytestmark = pytest.mark.usefixtures("inline_workers")


@pytest.fixture
def verify(command_line: CommandLine, fake_exports: Path) -> Callable[..., Said]:
    def call(*arguments: object, backends: str = "fake") -> Said:
        places = ("--exports", fake_exports)
        return command_line("verify", *ARGUMENTS, "--backend", backends, *places, *arguments)

    return call


def test_what_agrees_is_a_table_and_0(verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    said = verify()
    assert said.code == 0
    heading, _, fp32, bf16 = said.out.splitlines()
    assert heading.split() == [
        *("variant", "backend", "precision", "batch", "error", "tolerance", "cosine", "top-1", "ran", "verdict")
    ]
    assert fp32.split()[-1] == bf16.split()[-1] == "ok"
    assert "100%" in fp32
    assert list(tmp_path.iterdir()) == []


def test_progress_says_what_was_verified(verify):
    assert verify("--precision", "fp32").err.splitlines()[-1] == "[1/1] custom fake fault=none fp32 batch 1: verified"


@pytest.mark.parametrize("fault", ["wrong", "nan", "constant", "shape"])
def test_what_does_not_agree_is_1_with_the_reason(verify, fault: str):
    said = verify("--precision", "fp32", backends=f"fake:fault={fault}")
    assert (said.code, said.message) == (1, "vggbench: 1 of 1 rows failed parity; their reasons are above")
    assert f"custom fake fault={fault} fp32 batch 1: parity_failed: " in said.out


def test_a_failure_beside_a_success_is_a_failure(verify):
    assert verify(backends="fake,fake:fault=wrong").code == 1


def test_what_cannot_be_opened_is_5(verify):
    assert verify(backends="fake:fault=open").code == 5


def test_nothing_but_unsupported_is_4(verify, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FakeBackend, "supports", lambda *_: Support(False, "not on this processor"))
    said = verify("--precision", "bf16")
    assert said.code == 4
    assert "not on this processor" in said.out


def test_json_has_the_columns_names(verify):
    said = verify("--json", "--batch-size", "1,3")
    assert said.code == 0
    rows = json.loads(said.out)
    assert [list(row) for row in rows] == [list(COLUMNS)] * 4
    assert all(row["parity_error"] <= row["parity_tolerance"] for row in rows)
    assert {row["latency_ms"] for row in rows} == {None}
    assert {row["artefact_sha256"] == row["verified_sha256"] != "" for row in rows} == {True}


def test_a_plan_file(command_line: CommandLine, fake_exports: Path, tmp_path: Path):
    path = tmp_path / "plan.toml"
    path.write_text(
        '[[cells]]\nconfig = "8,M,16,M"\ninput_size = 32\nnum_classes = 5\nclassifier_width = 16\nbackend = "fake"\n'
    )
    assert command_line("verify", "--plan", path, "--exports", fake_exports).code == 0


def test_wrong_requests_are_2(verify):
    assert verify("--batch-size", "0").code == 2
    assert verify("--device", "cuda").code == 2


@pytest.mark.parametrize("fault", ["precision", "fallback"])
def test_what_ran_as_something_else_is_verified_as_nothing(verify, fault: str):
    said = verify("--precision", "fp32", backends=f"fake:fault={fault}")
    assert said.code == 1
    assert "ran as something else than was asked" in said.err


def test_bisecting_says_of_what_passes_that_there_is_nothing_to_find(verify):
    said = verify("--bisect", "--precision", "fp32")
    assert said.code == 0
    assert "custom fake fault=none fp32 batch 1: parity holds: there is nothing to find" in said.out


def test_bisecting_what_cannot_be_cut_says_why_and_changes_no_verdict(verify):
    said = verify("--bisect", "--precision", "fp32", backends="fake,fake:fault=wrong")
    assert said.code == 1
    remark = "cannot be bisected: fake runs no layers, so that no part of them can be run"
    assert f"custom fake fault=wrong fp32 batch 1: {remark}" in said.out
    assert "bisecting custom fake fault=wrong fp32 batch 1" in said.err


SOUGHT = Bisection(
    layer="features.3",
    remark="features.3 (Conv2d) is the first layer that departs: its own error is 0.5 of the signal",
    depths=(
        Depth(depth=2, layer="features.2", operation="MaxPool2d", error=1e-7, tolerance=1e-6, passed=True),
        Depth(
            depth=3,
            layer="features.3",
            operation="Conv2d",
            error=0.5,
            tolerance=2e-6,
            passed=False,
            reason="far",
            own_error=math.inf,
            own_tolerance=3e-6,
        ),
        Depth(depth=4, layer="features.4", operation="ReLU", error=None, tolerance=3e-6, passed=False, reason="gone"),
    ),
    builds=3,
)


@pytest.fixture
def sought(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vggbench.bisection.bisect", lambda *_arguments: SOUGHT)


@pytest.mark.usefixtures("sought")
def test_what_was_found_is_said_with_the_error_over_depth(verify):
    said = verify("--bisect", "--precision", "fp32", backends="fake:fault=wrong")
    lines = said.out.splitlines()
    assert f"custom fake fault=wrong fp32 batch 1: {SOUGHT.remark}" in lines
    heading, _, *rows = lines[-5:]
    assert heading.split() == ["depth", "layer", "operation", "error", "tolerance", "own", "error", "allowed"]
    assert [line.split() for line in rows] == [
        ["2", "features.2", "MaxPool2d", "1.0e-07", "1.0e-06"],
        ["3", "features.3", "Conv2d", "5.0e-01", "2.0e-06", "inf", "3.0e-06", *["the", "first", "that", "departs"]],
        ["4", "features.4", "ReLU", "3.0e-06", "beyond"],
    ]


@pytest.mark.usefixtures("sought")
def test_json_has_what_was_found_in_each_row(verify):
    said = verify("--bisect", "--json", "--precision", "fp32", backends="fake,fake:fault=wrong")
    good, bad = json.loads(said.out)
    assert list(good) == list(bad) == [*COLUMNS, "bisection"]
    assert good["bisection"]["layer"] == ""
    assert bad["bisection"]["layer"] == "features.3"
    assert [depth["own_error"] for depth in bad["bisection"]["depths"]] == [None] * 3
    assert bad["bisection"]["depths"][1]["own_tolerance"] == 3e-6
