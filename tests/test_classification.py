"""Accuracy and prediction on the fake backend, whose likeliest classes can be worked out beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vggbench
from tests.data.writing import write_folders
from tests.fakes import SPEC, fake_cell, fake_plan
from tests.running import Watcher
from vggbench.backends.fake import fake_logits
from vggbench.classification import TABLE_NAME, Steps, predict_images, resume_accuracy, start_accuracy
from vggbench.data.dataset import DataSet, Preprocessing, open_dataset
from vggbench.errors import (
    CellError,
    CheckFailed,
    DataError,
    Interrupted,
    RequestError,
    RunFolderError,
    VggbenchWarning,
)
from vggbench.results.accuracy import AccuracyRow
from vggbench.results.journal import JOURNAL_NAME, read_journal
from vggbench.results.predictions import PREDICTIONS_NAME
from vggbench.runner import Places

pytestmark = pytest.mark.usefixtures("inline_workers")

NAMES = ("ant", "bee", "cat", "dog", "emu")
IMAGES = 24
WRONG = 6  # of them are in another class's folder than the fake sees in them
TWO = (fake_cell(batch_size=5), fake_cell(batch_size=4, precision="bf16"))


def likeliest(images: np.ndarray) -> np.ndarray:
    prepared = Preprocessing.of_spec(SPEC)
    values = (images.astype(np.float32) / 255 - np.float32(prepared.mean)) / np.float32(prepared.std)
    return fake_logits(values.transpose(0, 3, 1, 2), SPEC.num_classes, SPEC.seed).argmax(axis=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of which the fake is right on all but `WRONG`."""
    where = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(3)
    noise = generator.integers(0, 256, (IMAGES, 32, 32, 3))
    blocks = generator.integers(0, 200, (IMAGES, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    images = (noise // 8 + blocks).astype(np.uint8)
    labels = likeliest(images)
    labels[:WRONG] = (labels[:WRONG] + 1) % len(NAMES)
    write_folders(where, {name: list(images[labels == label]) for label, name in enumerate(NAMES)})
    return where


@pytest.fixture(scope="module")
def data(folder: Path) -> DataSet:
    return open_dataset(folder, "test")


def start(data: DataSet, places: Places, *cells, **changes) -> list[AccuracyRow]:
    return start_accuracy(fake_plan(*(cells or TWO)), data, places, backend_versions={"fake": "1"}, **changes)


def test_every_cell_sees_every_image(data: DataSet, places: Places):
    fp32, bf16 = start(data, places)
    for one in (fp32, bf16):
        assert (one.row.status, one.accuracy.images) == ("ok", IMAGES)
        assert one.accuracy.top1_percent == pytest.approx(100 * (IMAGES - WRONG) / IMAGES)
        assert one.row.artefact_sha256 == one.row.verified_sha256 is not None
    assert (bf16.accuracy.against, bf16.accuracy.changed) == ("fake fp32", 0)
    header, *lines = (places.folder / TABLE_NAME).read_text().splitlines()
    assert header.split(",")[:3] == ["variant", "configuration", "backend"]
    assert len(lines) == 2


def test_progress_counts_batches(data: DataSet, places: Places):
    watcher = Watcher()
    start(data, places, observer=watcher)
    heard = [event for event in watcher.heard if event[0] == "measuring"]
    total = 5 + 6  # batches of five and of four images
    assert {event[3] for event in heard} == {total}
    assert sorted({event[2] for event in heard}) == list(range(total))
    assert [event[0] for event in watcher.heard].count("measured") == 2


def test_a_limit_takes_images_from_everywhere(data: DataSet, places: Places):
    (one,) = start(data, places, TWO[0], limit=7)
    assert one.accuracy.images == 7
    expected = likeliest(data.pixels([place * IMAGES // 7 for place in range(7)]))
    right = expected == data.labels[[place * IMAGES // 7 for place in range(7)]]
    assert one.accuracy.top1_percent == pytest.approx(100 * right.mean())


MOST_AT_ONCE = 5  # images of a cell's batch


class Stopping(DataSet):
    """A data set that interrupts whoever asks for the batch after so many."""

    def __init__(self, data: DataSet, batches: int) -> None:
        for name in ("name", "classes", "labels", "sha256", "skipped"):
            object.__setattr__(self, name, getattr(data, name))
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "left", batches)

    def pixels(self, indices):
        return self.data.pixels(indices)

    def sized(self, indices, preprocessing, input_size):
        return self.data.sized(indices, preprocessing, input_size)

    def batch(self, indices, preprocessing, input_size):
        if len(indices) > MOST_AT_ONCE:  # those that cells are verified on
            return self.data.batch(indices, preprocessing, input_size)
        if not self.left:
            raise KeyboardInterrupt
        object.__setattr__(self, "left", self.left - 1)
        return self.data.batch(indices, preprocessing, input_size)


@pytest.mark.parametrize("batches", [0, 3, 5, 8])
def test_what_was_stopped_goes_on_where_it_was(data: DataSet, places: Places, tmp_path: Path, batches: int):
    with pytest.raises(Interrupted, match=r"stopped; .* vggbench accuracy --resume --output .* --data DIR --exports"):
        start(Stopping(data, batches), places)
    assert (places.folder / TABLE_NAME).exists()
    rest = Stopping(data, 11 - batches)  # the very number that is left: one more is an interrupt
    resumed = resume_accuracy(places, rest)
    whole = start(data, replace(places, folder=tmp_path / "whole"))
    assert [one.accuracy for one in resumed] == [one.accuracy for one in whole]
    assert rest.left == 0


def test_a_run_that_is_over_resumes_to_the_same_rows(data: DataSet, places: Places):
    rows = start(data, places)
    before = (places.folder / PREDICTIONS_NAME).read_bytes()
    assert resume_accuracy(places, data) == rows
    assert (places.folder / PREDICTIONS_NAME).read_bytes() == before


def test_what_failed_is_a_row_and_is_tried_again(data: DataSet, places: Places):
    cells = (TWO[0], fake_cell(fault="run"), fake_cell(fault="open"))
    found = start(data, places, *cells)
    assert [one.row.status for one in found] == ["ok", "failed", "failed"]
    assert "the script says that running fails" in (found[1].row.reasons or "")
    assert [one.accuracy.images for one in found] == [IMAGES, None, None]
    resume_accuracy(places, data)
    attempts = {record.cell_id: record.attempt for record in read_journal(places.folder / JOURNAL_NAME)}
    assert [attempts[str(one.row.cell_id)] for one in found] == [1, 2, 2]


@pytest.mark.parametrize("fault", ["wrong", "nan", "constant"])
def test_a_session_that_failed_parity_predicts_nothing(data: DataSet, places: Places, fault: str):
    (one,) = start(data, places, fake_cell(fault=fault))
    assert (one.row.status, one.accuracy.images) == ("parity_failed", None)
    assert not (places.folder / PREDICTIONS_NAME).read_bytes()


def test_a_session_that_ran_as_something_else_says_so(data: DataSet, places: Places):
    (one,) = start(data, places, fake_cell(fault="precision"))
    assert one.row.status == "precision_mismatch"


def test_other_images_do_not_continue_a_run(data: DataSet, places: Places, tmp_path: Path):
    start(data, places)
    write_folders(tmp_path / "other", {name: [np.zeros((32, 32, 3), dtype=np.uint8)] for name in NAMES})
    with pytest.raises(RunFolderError, match=r"is about photos\S* with the hash \w+\.\.\., other has \w+\.\.\.; name"):
        resume_accuracy(places, open_dataset(tmp_path / "other", "test"))


def test_a_folder_is_used_once(data: DataSet, places: Places):
    start(data, places)
    with pytest.raises(RunFolderError, match=r"holds a accuracy.json already; continue it with --resume"):
        start(data, places)


def test_nothing_to_resume_is_said(data: DataSet, places: Places):
    with pytest.raises(RunFolderError, match=r"holds no run: accuracy.json is missing"):
        resume_accuracy(places, data)


def test_networks_of_other_classes_are_refused_before_anything_is_written(data: DataSet, places: Places):
    cell = fake_cell(spec=replace(SPEC, num_classes=7))
    with pytest.raises(RequestError, match=r"custom tells 7 classes apart and photos\S* has 5; give --num-classes"):
        start(data, places, cell)
    assert not places.folder.exists()


def test_images_of_another_size_are_refused_before_anything_is_written(data: DataSet, places: Places, monkeypatch):
    monkeypatch.setattr(Preprocessing, "of_spec", lambda _network: Preprocessing())
    with pytest.raises(DataError, match=r"come out 32x32 pixels large .* takes 64x64; give --resize 64"):
        start(data, places, fake_cell(spec=replace(SPEC, input_size=64)))
    assert not places.folder.exists()
    assert start(data, places, fake_cell(spec=replace(SPEC, input_size=64)), steps=Steps(resize=64))


def test_names_that_stand_elsewhere_are_refused(data: DataSet, places: Places, monkeypatch):
    from vggbench.models.description import Description

    described = Description(classes=("bee", "ant", *NAMES[2:]))
    monkeypatch.setattr("vggbench.classification.describe", lambda _network: described)
    with pytest.raises(RequestError, match="class 0 is 'bee' to the weights and 'ant' in photos"):
        start(data, places)


def test_names_of_which_none_is_shared_are_matched_by_their_order_and_said(data: DataSet, places: Places, monkeypatch):
    from vggbench.models.description import Description

    described = Description(classes=tuple(f"c{number}" for number in range(len(NAMES))))
    monkeypatch.setattr("vggbench.classification.describe", lambda _network: described)
    with pytest.warns(VggbenchWarning, match=r"name other classes \(c0, ...\) than photos\S* \(ant, ...\): they are"):
        start(data, places)


def test_steps_of_the_command_line_replace_the_weights_own():
    steps = Steps(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), resize=40)
    assert steps.of(SPEC) == Preprocessing(resize=40, crop=32)
    assert Steps().of(SPEC) == Preprocessing.of_spec(SPEC)


def pictures(folder: Path) -> list:
    from vggbench.data.image_file import read_image

    return [read_image(path) for path in sorted(folder.glob("*/*.png"))]


@pytest.mark.parametrize("batch_size", [1, 5])
def test_single_images_get_their_likeliest_classes(folder: Path, data: DataSet, fake_exports: Path, batch_size: int):
    cell = fake_cell(batch_size=batch_size)
    found = predict_images(cell, pictures(folder), fake_exports, Steps(), backend_versions={"fake": "1"})
    assert [one[0][0] for one in found] == likeliest(data.pixels(range(IMAGES))).tolist()
    assert all(sum(probability for _class, probability in one) == pytest.approx(1) for one in found)


@pytest.mark.parametrize(("fault", "kind"), [("wrong", CheckFailed), ("run", CellError), ("precision", CheckFailed)])
def test_what_is_not_proven_predicts_nothing(folder: Path, fake_exports: Path, fault: str, kind: type[Exception]):
    with pytest.raises(kind, match=f"custom fake fault={fault}"):
        predict_images(fake_cell(fault=fault), pictures(folder), fake_exports, Steps(), backend_versions={})


SHAPE = {"config": "8,M,16,M", "input_size": 32, "num_classes": 5, "classifier_width": 16}


def test_from_python(folder: Path, data: DataSet, tmp_path: Path, fake_exports: Path):
    table = vggbench.accuracy(data=folder, backend="fake", output=tmp_path / "run", exports=fake_exports, **SHAPE)
    assert table["precision"].tolist() == ["fp32", "bf16"]
    assert table["images"].tolist() == [IMAGES, IMAGES]
    assert table["top1_percent"].tolist() == pytest.approx([100 * (IMAGES - WRONG) / IMAGES] * 2)
    paths = sorted(folder.glob("*/*.png"))[:3]
    found = vggbench.predict(paths, backend="fake", exports=fake_exports, **SHAPE)
    assert [one[0][0] for one in found] == [f"class {label}" for label in likeliest(data.pixels(range(3)))]
    with pytest.raises(DataError, match=r"nowhere.png': cannot be read: No such file"):
        vggbench.predict("nowhere.png", backend="fake", exports=fake_exports, **SHAPE)
