"""What is read back from a gate's folder, and what is wrong with one that somebody has changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import fake_cell
from tests.gate.two_sides import BOTH, gate_of, journal_lines, sides
from tests.gate.watching import GateWatcher
from vggbench.errors import RunFolderError
from vggbench.gate.gate_info import GATE_NAME, GateInfo, read_gate_info, write_gate_info
from vggbench.gate.journal import PAIRS_NAME, read_pairs
from vggbench.gate.paired import start_gate
from vggbench.runner import Places

pytestmark = pytest.mark.usefixtures("still_environment")


@pytest.fixture
def measured(places: Places, inline_workers: None) -> tuple[Path, GateInfo]:
    start_gate(gate_of(BOTH[0]), places, sides(), GateWatcher())
    return places.folder, read_gate_info(places.folder)


def test_a_head_is_read_as_it_was_written(tmp_path: Path):
    info = gate_of(*BOTH, fake_cell(unsupported="not here"), lacks={BOTH[1].id: {"head": "no bf16"}})
    write_gate_info(tmp_path, info)
    assert read_gate_info(tmp_path) == info
    assert info.paired == (BOTH[0],)


def test_a_seed_that_is_not_given_is_drawn_and_kept(tmp_path: Path):
    drawn = {gate_of(seed=None).seed for _ in range(4)}
    assert len(drawn) > 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: {**data, "schema_version": 99}, "has schema version 99, this vggbench reads 1"),
        (lambda data: {**data, "cells": []}, "cells: Tuple should have at least 1 item"),
        (lambda data: {**data, "rule": {**data["rule"], "tolerance": 3.0}}, "the plan in it cannot be read"),
        (lambda data: {**data, "sides": {"base": 3}}, "sides.base"),
        (lambda data: [data], "has schema version None"),
        (lambda _data: {}, "has schema version None"),
    ],
)
def test_a_changed_head_is_one_line(tmp_path: Path, change: Callable[[Any], Any], words: str):
    write_gate_info(tmp_path, gate_of())
    path = tmp_path / GATE_NAME
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(RunFolderError) as caught:
        read_gate_info(tmp_path)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["", "{", "\x00", "[" * 100_000])
def test_a_head_that_is_no_json_is_one_line(tmp_path: Path, text: str):
    (tmp_path / GATE_NAME).write_text(text)
    with pytest.raises(RunFolderError, match=r"gate\.json is not JSON"):
        read_gate_info(tmp_path)


def test_a_head_that_cannot_be_read_is_one_line(tmp_path: Path):
    (tmp_path / GATE_NAME).mkdir()
    with pytest.raises(RunFolderError, match=r"gate\.json cannot be read: Is a directory"):
        read_gate_info(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [*lines, lines[0]], "line 8: round .* stands there twice or was not declared"),
        (lambda lines: [lines[0].replace('"round":', '"round":9')], "stands there twice or was not declared"),
        (lambda lines: [lines[0].replace('"stage":1', '"stage":3')], "stands there twice or was not declared"),
        (lambda lines: ["{}"], "line 1: not a paired round's record"),
        (lambda lines: ["nothing", *lines], "line 1: not a paired round's record"),
        (
            lambda lines: [lines[0].replace('"difference":0.0', '"difference":-1')],
            "no.* paired round's record .*negative",
        ),
    ],
)
def test_a_changed_journal_is_one_line(measured: tuple[Path, GateInfo], change: Callable[..., list[str]], words: str):
    folder, info = measured
    (folder / PAIRS_NAME).write_text("\n".join(change(journal_lines(folder))) + "\n")
    with pytest.raises(RunFolderError, match=words):
        read_pairs(folder, info)


def test_a_torn_last_line_is_no_round(measured: tuple[Path, GateInfo]):
    folder, info = measured
    whole = read_pairs(folder, info)
    with (folder / PAIRS_NAME).open("a") as file:
        file.write('{"cell_id":"12')
    assert read_pairs(folder, info) == whole
    assert len(whole) == 7
    assert all(record.whole for record in whole)
