"""Stored runs with one value changed by hand: read as a run, or refused in one line; never a traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import fake_cell
from tests.results.made import CELL, changed, info, rounds
from vggbench.errors import RunFolderError
from vggbench.report.frame import frame
from vggbench.report.markdown import summary
from vggbench.results.journal import JOURNAL_NAME, Journal, read_rounds
from vggbench.results.rows import derive_rows
from vggbench.results.run_info import FILE_NAME, read_run_info, write_run_info

TORCH = fake_cell(backend="torch")
ODD = (None, True, -1, 0, 10**30, -0.5, 0.5, float("nan"), float("inf"), 1e308, "", "1", [], {}, [1], {"a": 1}, ...)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_run_info(tmp_path, info(CELL, TORCH))
    journal = Journal(tmp_path / JOURNAL_NAME)
    for item in [*rounds(CELL, [1.0, 1.5]), *rounds(TORCH, [2.0])]:
        journal.append(item)
    return tmp_path


def use(folder: Path) -> None:
    """Do with a stored run what `vggbench report` does, but for writing files."""
    head = read_run_info(folder)
    rows = derive_rows(head, read_rounds(folder, head.plan))
    frame(rows)
    summary(head, rows)


def places_in(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every value; of a list, its first two."""
    if path:
        yield path
    if isinstance(node, dict):
        for name, item in node.items():
            yield from places_in(item, (*path, name))
    if isinstance(node, list):
        for index, item in enumerate(node[:2]):
            yield from places_in(item, (*path, index))


def outcomes(folder: Path, name: str, document: Any, rest: str) -> dict[str, int]:
    """Change each value of the document, which stands in front of the rest of its file, to each odd one."""
    counts = {"read": 0, "refused": 0}
    for path in places_in(document):
        for value in ODD:
            (folder / name).write_text(json.dumps(changed(document, path, value)) + "\n" + rest)
            try:
                use(folder)
            except RunFolderError as error:
                assert "\n" not in str(error)  # noqa: PT017 - either is right
                counts["refused"] += 1
            else:
                counts["read"] += 1
    return counts


@pytest.mark.slow
def test_any_value_of_the_head(folder: Path):
    counts = outcomes(folder, FILE_NAME, json.loads((folder / FILE_NAME).read_text()), "")
    assert counts["refused"] > counts["read"] > 0


@pytest.mark.slow
def test_any_value_of_a_round(folder: Path):
    first, *others = (folder / JOURNAL_NAME).read_text().splitlines(keepends=True)
    counts = outcomes(folder, JOURNAL_NAME, json.loads(first), "".join(others))
    assert counts["refused"] > counts["read"] > 0


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("plan", "timeout_s"), -1.0, "plan.timeout_s: Input should be greater than 0"),
        (("plan", "timeout_s"), float("nan"), "plan.timeout_s: Input should be a finite number"),
        (("plan", "round_seconds"), 0.0, "plan.round_seconds: Input should be greater than 0"),
        (("plan", "round_seconds"), 1e9, "plan.round_seconds: Input should be less than or equal to 604800"),
        (("plan", "seed"), -1, "plan.seed: Input should be greater than or equal to 0"),
        (("plan", "cells", 0, "in_flight"), 0, "plan.cells.0.in_flight: Input should be greater than or equal to 1"),
        (("plan", "cells", 0, "batch_size"), 0, "plan.cells.0.batch_size: Input should be greater than or equal to 1"),
        (("prepared", CELL.id, "macs"), -1, f"prepared.{CELL.id}.macs: -1 is negative"),
        (("prepared", CELL.id, "tolerance"), float("inf"), "tolerance: inf is no number of a measurement"),
        (("prepared", CELL.id, "artefact", "sha256"), [], "sha256 is [], not text"),
        (("prepared", CELL.id, "artefact", "seconds"), "1", "seconds is '1', not a number"),
        (("environment", "commit"), 5, "commit is 5, not text"),
    ],
)
def test_what_is_wrong_in_a_head_is_named(folder: Path, path: tuple[str | int, ...], value: Any, words: str):
    document = json.loads((folder / FILE_NAME).read_text())
    (folder / FILE_NAME).write_text(json.dumps(changed(document, path, value)))
    with pytest.raises(RunFolderError) as caught:
        read_run_info(folder)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("sessions", 0, "load_s"), float("nan"), "sessions.0.load_s: nan is no number of a measurement"),
        (("sessions", 0, "import_s"), -0.5, "sessions.0.import_s: -0.5 is negative"),
        (("peak_memory_bytes",), 10**30, "is no number of a measurement"),
        (
            ("sessions", 0, "parity", "metrics", "cosine"),
            "1",
            "parity: Value error, cosine is '1', not a number",
        ),
        (("sessions", 0, "parity", "metrics", "signal_error"), ..., "signal_error is 'missing', not a number"),
        (("sessions", 0, "blocks", 0, "samples_ns"), [], "a warmup block without samples, or of no time"),
        (("sessions", 1, "blocks", 0, "samples_ns"), [0], "a throughput block without samples, or of no time"),
    ],
)
def test_what_is_wrong_in_a_round_is_named_with_its_line(
    folder: Path, path: tuple[str | int, ...], value: Any, words: str
):
    first, *others = (folder / JOURNAL_NAME).read_text().splitlines(keepends=True)
    edited = json.dumps(changed(json.loads(first), path, value)) + "\n"
    (folder / JOURNAL_NAME).write_text("".join([*others, edited]))
    with pytest.raises(RunFolderError) as caught:
        use(folder)
    assert "line 3: not a round's record (" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(("field", "value"), [("cell_id", "0123456789ab"), ("round", 6), ("round", 1000)])
def test_a_round_that_is_not_in_the_plan_is_refused(folder: Path, field: str, value: str | int):
    first, *others = (folder / JOURNAL_NAME).read_text().splitlines(keepends=True)
    (folder / JOURNAL_NAME).write_text(json.dumps({**json.loads(first), field: value}) + "\n" + "".join(others))
    with pytest.raises(RunFolderError, match=r"is not in the plan of run\.json, which has 2 cells and 6 rounds"):
        use(folder)
