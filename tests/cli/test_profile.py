"""`vggbench profile` on the fake backend."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine, Said
from tests.fakes import ARGUMENTS
from tests.measure.test_roofline import ceiling
from vggbench.backends.base import Support
from vggbench.backends.fake import FakeBackend, FakeSession

pytestmark = pytest.mark.usefixtures("inline_workers")

NAMES = ["features.0", "features.3", "classifier.0", "classifier.3", "classifier.6"]
COST = "5 requests: 1.00 ms each profiled, shared out here; 1.00 ms otherwise (0.0 % slower)."
LAYER_FIELDS = {
    *("layer", "part", "operation", "time_ms", "share_percent", "gflop", "gflop_s", "least_mib"),
    *("attainable_ms", "percent_of_attainable", "bound_by"),
}


@pytest.fixture
def profile(command_line: CommandLine, fake_exports: Path) -> Callable[..., Said]:
    def call(*arguments: object, backends: str = "fake", precision: str = "fp32") -> Said:
        fixed = ("--backend", backends, "--precision", precision, "--exports", fake_exports, "--requests", "5")
        return command_line("profile", *ARGUMENTS, *fixed, *arguments)

    return call


def test_a_table_a_cell_says_every_layer_and_what_the_profiler_costs(profile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = profile(precision="fp32,bf16")
    assert said.code == 0
    first, second, end = said.out.split(COST)
    assert first.startswith("custom fake fault=none fp32 batch 1\n")
    for table in (first, second):
        lines = table.strip().splitlines()
        assert [line.split()[0] for line in lines[3:-1]] == NAMES
        assert lines[-1].split()[:3] == ["outside", "the", "layers"]
        assert sum(float(line.split()[-3]) for line in lines[3:-1]) == pytest.approx(90, abs=0.3)
    assert end.strip() == ""
    assert max(map(len, said.out.splitlines())) <= 100
    assert list(tmp_path.iterdir()) == []


def test_json_says_the_same_with_units(profile):
    said = profile("--json", "--batch-size", "2")
    (cell,) = json.loads(said.out)
    assert (cell["status"], cell["batch_size"], cell["requests"], cell["request_ms"]) == ("ok", 2, 5, 1.0)
    assert [row["layer"] for row in cell["layers"]] == [*NAMES, "outside the layers"]
    assert {name for row in cell["layers"] for name in row} == LAYER_FIELDS
    assert sum(row["share_percent"] for row in cell["layers"]) == pytest.approx(100)
    assert cell["layers"][0]["gflop_s"] > 0


def test_a_csv_has_every_operation_of_every_cell(profile, tmp_path: Path):
    path = tmp_path / "layers.csv"
    path.write_text("old")
    assert profile("--csv", path, "--batch-size", "1,2").code == 0
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["batch_size"], line["layer"]) for line in lines] == [
        (size, name) for size in ("1", "2") for name in (*NAMES, "outside the layers")
    ]
    assert set(lines[0]) >= LAYER_FIELDS
    assert lines[0]["percent_of_attainable"] == ""
    assert [path.name for path in tmp_path.iterdir()] == ["layers.csv"]


def test_against_ceilings_rows_say_how_near_they_come(profile, monkeypatch: pytest.MonkeyPatch):
    asked = []
    found = [ceiling(1e9), ceiling(1e9, "", "bandwidth")]
    monkeypatch.setattr("vggbench.runner.plan_ceilings", lambda plan: asked.append(plan) or found)
    said = profile()
    assert said.code == 0
    assert "% att.: of what is attainable on this machine, at 1.00 GFLOP/s and 1.00 GB/s." in said.out
    assert "bandwidth" in said.out
    assert "measuring what this machine can do at best" in said.err
    asked.clear()
    assert "att." not in profile("--no-roofline").out
    assert asked == []


@pytest.mark.parametrize(("fault", "code"), [("wrong", 1), ("open", 5), ("precision", 1)])
def test_what_fails_is_said_with_its_reason(profile, fault: str, code: int):
    said = profile(backends=f"fake,fake:fault={fault}")
    assert said.code == code
    assert "features.0" in said.out  # of the other
    assert f"fault={fault} fp32 batch 1: " in said.out


def test_a_profiler_that_fails_is_5_and_an_empty_profile(profile, monkeypatch: pytest.MonkeyPatch):
    def fail(*_arguments: object) -> None:
        raise RuntimeError("the profiler is out of buffers")

    monkeypatch.setattr(FakeSession, "layer_times", fail)
    said = profile("--json")
    assert said.code == 5
    (cell,) = json.loads(said.out)
    assert (cell["layers"], cell["status"]) == ([], "failed")
    assert "the profiler is out of buffers" in cell["reasons"]


def test_layers_that_nothing_tells_are_named(profile, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FakeSession, "layer_times", lambda self, run, requests: [run() for _ in range(requests)] and ())
    said = profile()
    assert said.code == 0
    assert f"Nothing in the profile tells which operation is {', '.join(NAMES)}." in said.out


def test_nothing_but_unsupported_is_4(profile, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FakeBackend, "supports", lambda *_: Support(False, "not on this processor"))
    assert profile().code == 4


@pytest.mark.parametrize("requests", [4, 0, -1, 1001])
def test_a_number_of_requests_out_of_reach_is_2(command_line: CommandLine, requests: int):
    said = command_line("profile", "--backend", "fake", f"--requests={requests}")
    assert (said.code, said.message) == (2, f"vggbench: requests is {requests}; it must be from 5 to 1000")


@pytest.mark.parametrize(("place", "reason"), [(".", "is a folder"), ("no/layers.csv", "a folder that is not there")])
def test_a_csv_that_cannot_be_written_is_said_before_anything_is_measured(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, reason: str
):
    monkeypatch.setattr("vggbench.profiling.profile_plan", lambda *_, **__: pytest.fail("it was measured"))
    said = command_line("profile", "--backend", "fake", "--csv", tmp_path / place)
    assert said.code == 2
    assert reason in said.message
