from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import edited, many
from tests.fakes import fake_cell, fake_plan
from vggbench.errors import RunFolderError
from vggbench.results.predictions import (
    DATA_NAME,
    PREDICTIONS_NAME,
    DataRecord,
    PredictedBatch,
    PredictionJournal,
    read_data_record,
    read_predictions,
    write_data_record,
)

CELL, OTHER = fake_cell(), fake_cell(precision="bf16")
PLAN = fake_plan(CELL, OTHER)
RECORD = DataRecord(
    name="photos/test", sha256="ab" * 32, images=9, used=5, skipped=(("a.txt", "is no image"),), resize=8
)
BATCHES = [
    PredictedBatch(cell_id=CELL.id, first=0, classes=((0, 1), (1, 4))),
    PredictedBatch(cell_id=OTHER.id, first=0, classes=((2, 3),)),
    PredictedBatch(cell_id=CELL.id, first=2, classes=((4, 0),)),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    journal = PredictionJournal(tmp_path / PREDICTIONS_NAME)
    for batch in BATCHES:
        journal.append(batch)
    journal.flush()
    return tmp_path


def test_what_was_written_is_read_by_cell(folder: Path):
    assert read_predictions(folder, PLAN, 5) == {CELL.id: [(0, 1), (1, 4), (4, 0)], OTHER.id: [(2, 3)]}


def test_without_a_file_nothing_was_predicted(tmp_path: Path):
    assert read_predictions(tmp_path, PLAN, 5) == {CELL.id: [], OTHER.id: []}


def test_a_torn_line_is_left_out_and_then_cut_off(folder: Path):
    path = folder / PREDICTIONS_NAME
    path.write_bytes(path.read_bytes()[:-3])
    assert read_predictions(folder, PLAN, 5)[CELL.id] == [(0, 1), (1, 4)]
    PredictionJournal(path).append(BATCHES[2])
    assert read_predictions(folder, PLAN, 5)[CELL.id] == [(0, 1), (1, 4), (4, 0)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"cell_id": "0" * 12, "first": 0, "classes": [[0]]}, "line 4: cell 000000000000 is not in the plan"),
        ({"cell_id": CELL.id, "first": 2, "classes": [[0]]}, "images from 2 on, where 3 of 5 are predicted already"),
        ({"cell_id": CELL.id, "first": 4, "classes": [[0]]}, "images from 4 on, where 3 of 5"),
        ({"cell_id": CELL.id, "first": 3, "classes": [[0]] * 3}, "images from 3 on"),
        ({"cell_id": CELL.id, "first": 3, "classes": [[5]]}, "a class that is not among the network's 5"),
        ({"cell_id": CELL.id, "first": 3, "classes": [[]]}, "a class that is not among"),
        ({"cell_id": CELL.id, "first": 3, "classes": []}, "line 4: classes"),
        ({"cell_id": CELL.id, "first": 3, "classes": [[-1]]}, "line 4: classes.0.0"),
        ({"cell_id": CELL.id, "first": "3", "classes": [[1]]}, "line 4: first"),
        ([], "line 4: content"),
    ],
)
def test_a_line_that_cannot_follow_is_named(folder: Path, line, said: str):
    with (folder / PREDICTIONS_NAME).open("a") as file:
        file.write(json.dumps(line) + "\n")
    with pytest.raises(RunFolderError, match=said):
        read_predictions(folder, PLAN, 5)


@many
@given(data=st.data())
def test_any_file_is_read_or_refused_in_one_line(folder: Path, data: st.DataObject):
    content = (folder / PREDICTIONS_NAME).read_bytes()
    other = folder / "other"
    other.mkdir(exist_ok=True)
    (other / PREDICTIONS_NAME).write_bytes(data.draw(edited(content)))
    try:
        found = read_predictions(other, PLAN, 5)
    except RunFolderError as error:
        assert "\n" not in str(error)  # noqa: PT017 - the other outcome is as good
    else:
        assert all(len(labels) <= 5 for labels in found.values())


def test_the_record_of_the_images_survives(tmp_path: Path):
    write_data_record(tmp_path, RECORD)
    assert read_data_record(tmp_path) == RECORD


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"used": 0}, "data.json: used"),
        ({"schema_version": 9}, "has schema version 9"),
        ({"name": 3}, "name"),
    ],
)
def test_a_changed_record_is_named(tmp_path: Path, change, said: str):
    write_data_record(tmp_path, RECORD)
    data = json.loads((tmp_path / DATA_NAME).read_text())
    (tmp_path / DATA_NAME).write_text(json.dumps(data | change))
    with pytest.raises(RunFolderError, match=said):
        read_data_record(tmp_path)


def test_a_missing_record_is_named(tmp_path: Path):
    with pytest.raises(RunFolderError, match=r"data.json cannot be read or written: No such file"):
        read_data_record(tmp_path)
