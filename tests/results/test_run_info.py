from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes import fake_cell
from tests.results.made import CELL, changed, info, prepared
from vggbench.environment import Environment, comparable
from vggbench.errors import RunFolderError
from vggbench.measure.records import Failure
from vggbench.results.run_info import FILE_NAME, read_run_info, write_run_info

BF16 = fake_cell(precision="bf16", latency_ms="1/2", batch_size=3)
INFO = info(
    CELL,
    BF16,
    prepared={
        CELL.id: prepared(CELL),
        BF16.id: prepared(BF16, failure=Failure(stage="prepare", status="failed", reason="no")),
    },
)


def test_what_was_written_is_read_again(tmp_path: Path):
    write_run_info(tmp_path, INFO)
    assert read_run_info(tmp_path) == INFO


def test_the_machine_as_it_was_read_crosses_the_file(tmp_path: Path, this_environment: Environment):
    now = this_environment.to_json()
    write_run_info(tmp_path, info(CELL, environment=now))
    assert comparable(read_run_info(tmp_path).environment, now) == {}


def change(path: Path, *keys: str | int, value: Any) -> None:
    """Set or, for `...`, remove one value of a JSON file."""
    path.write_text(json.dumps(changed(json.loads(path.read_text()), keys, value)))


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("schema_version",), 2, "has schema version 2, this vggbench reads 1"),
        (("schema_version",), ..., "has schema version None"),
        (("started_at",), 5, "started_at: Input should be a valid string"),
        (("plan",), ..., "plan: Field required"),
        (("plan", "cells"), [], "plan.cells: Tuple should have at least 1 item"),
        (("plan", "rounds"), "6", "plan.rounds: Input should be a valid integer"),
        (("plan", "rounds"), 0, "plan.rounds: Input should be greater than or equal to 1"),
        (("plan", "cells", 0, "threads"), None, "plan.cells.0.threads: Input should be a valid integer"),
        (("plan", "cells", 0, "spec", "head"), ..., "plan.cells.0.spec.vgg.head: Field required"),
        (("plan", "cells", 0, "spec", "head"), "round", "the plan in it cannot be read: head is 'round'"),
        (("plan", "cells", 0, "spec", "configuration"), "8,X", "the plan in it cannot be read: "),
        (("environment",), [], "environment: "),
        (("environment", "system"), [], "environment: Value error, system is not a table"),
        (("environment", "libraries"), "x", "environment: Value error, libraries is not a table"),
        (("prepared", CELL.id, "macs"), 1.5, f"prepared.{CELL.id}.macs: Input should be a valid integer"),
        (("backend_versions",), {"fake": 1}, "backend_versions.fake: Input should be a valid string"),
    ],
)
def test_a_value_that_is_wrong_is_named(tmp_path: Path, keys: tuple[str | int, ...], value: Any, words: str):
    write_run_info(tmp_path, INFO)
    change(tmp_path / FILE_NAME, *keys, value=value)
    with pytest.raises(RunFolderError) as caught:
        read_run_info(tmp_path)
    assert f"{tmp_path / FILE_NAME}" in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "has schema version None"),
        (b"5", "has schema version None"),
        (b'{"schema_version": 1}', "Field required"),
    ],
)
def test_what_is_no_head_of_a_run(tmp_path: Path, text: bytes, words: str):
    (tmp_path / FILE_NAME).write_bytes(text)
    with pytest.raises(RunFolderError, match=words):
        read_run_info(tmp_path)


def test_folders_without_a_run(tmp_path: Path):
    with pytest.raises(RunFolderError, match=r"holds no run: run\.json is missing"):
        read_run_info(tmp_path)
    with pytest.raises(RunFolderError, match="holds no run"):
        read_run_info(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="cannot be read: Not a directory"):
        read_run_info(tmp_path / "file")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_whatever_one_value_becomes_it_is_a_run_or_an_error_in_one_line(tmp_path: Path, data):
    write_run_info(tmp_path, INFO)
    path = tmp_path / FILE_NAME
    keys: list[str | int] = []
    place: Any = json.loads(path.read_text())
    while isinstance(place, dict | list) and place and (not keys or data.draw(st.booleans())):
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        keys.append(key)
        place = place[key]
    odd = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([]) | st.just({}) | st.just(...)
    change(path, *keys, value=data.draw(odd))
    try:
        read_run_info(tmp_path)
    except RunFolderError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either is right
