"""`vggbench audit`: exit codes, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.meta.repository import ROOT


@pytest.fixture
def impossible(tmp_path: Path) -> Path:
    path = tmp_path / "published.csv"
    path.write_text("model,batch,latency_ms,img/s\nvgg16,1,8.0,125\nvgg19,1,7.0,143\nresnet50,1,3,333\n")
    return path


def test_contradictions_end_in_1(command_line: CommandLine, impossible: Path) -> None:
    said = command_line("audit", impossible)
    assert said.code == 1
    assert "order: vgg19 batch 1 (line 3) has more layers and a shorter latency than vgg16 batch 1 (line 2)" in said.out
    assert "1 rows of other networks were not looked at" in said.out
    assert said.message == f"vggbench: {impossible}: 2 contradictions in 7 comparisons; they are above"


def test_json(command_line: CommandLine, impossible: Path) -> None:
    said = command_line("audit", impossible, "--json")
    document = json.loads(said.out)
    assert (said.code, document["rows"], document["other_rows"]) == (1, 2, 1)
    assert document["comparisons"] == {"order": 2, "throughput": 2, "units": 2, "copied": 1}
    assert [found["lines"] for found in document["contradictions"]] == [[3, 2], [3, 2]]


def test_a_sound_run_ends_in_0(command_line: CommandLine) -> None:
    said = command_line("audit", ROOT / "reports" / "two-core-cpu")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("5 rows, comparisons: throughput 5, units 5")


def test_nothing_to_compare_ends_in_4(command_line: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("model,latency_ms\nresnet50,3\n")
    said = command_line("audit", path)
    assert said.code == 4
    assert said.message == f"vggbench: {path}: 0 rows of VGGs, and nothing in them that can be compared"


def test_no_table_ends_in_2(command_line: CommandLine, tmp_path: Path) -> None:
    said = command_line("audit", tmp_path / "none.csv")
    assert said.code == 2
    assert said.message.startswith(f"vggbench: {tmp_path / 'none.csv'} cannot be read: ")
