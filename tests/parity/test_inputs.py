"""Which images a network is shown, and that a row says so."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vggbench
from tests.data.writing import write_folders
from tests.fakes import SPEC, fake_cell, fake_plan
from tests.running import start
from vggbench.data.dataset import DataSet, Preprocessing, open_dataset
from vggbench.data.source import SEED, SYNTHETIC, DataSource
from vggbench.data.synthetic import images
from vggbench.errors import DataError
from vggbench.parity.inputs import IMAGES, input_images, keep_inputs
from vggbench.preparation import materials, on_images_of
from vggbench.report.derive import derive_again
from vggbench.runner import Places, resume_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("photos")
    found = np.random.default_rng(1).integers(0, 256, (20, 40, 36, 3), dtype=np.uint8)
    write_folders(where, {"cats": list(found[:13]), "dogs": list(found[13:])})
    return where


@pytest.fixture(scope="module")
def data(folder: Path) -> DataSet:
    return open_dataset(folder, "test")


def test_without_a_source_they_are_synthetic_and_the_same_for_everybody(tmp_path: Path):
    found = input_images(SPEC, tmp_path, None)
    assert np.array_equal(found, images(IMAGES, SPEC.input_size, SEED))
    assert not list(tmp_path.iterdir())


def test_images_of_a_set_are_spread_over_it_and_prepared_as_the_weights_say(data: DataSet, tmp_path: Path):
    source = keep_inputs(SPEC, tmp_path, data)
    assert source == DataSource(name=data.name, sha256=data.sha256)
    expected = data.batch([place * 20 // IMAGES for place in range(IMAGES)], Preprocessing.of_spec(SPEC), 32)
    assert np.array_equal(input_images(SPEC, tmp_path, source), expected)


def test_images_that_were_not_kept_are_asked_for(tmp_path: Path):
    with pytest.raises(DataError, match=r"the images of photos abababababab are not among .*; name the run's own"):
        input_images(SPEC, tmp_path, DataSource(name="photos", sha256="ab" * 32))
    assert [path.name for path in tmp_path.glob("*/*")] == [".lock"]


def test_a_set_of_too_few_is_refused(tmp_path: Path):
    write_folders(tmp_path, {name: [np.zeros((32, 32, 3), dtype=np.uint8)] for name in ("a", "b")})
    with pytest.raises(DataError, match="8 images asked for; the set has 2"):
        keep_inputs(SPEC, tmp_path, open_dataset(tmp_path, "test"))


def test_the_reference_is_of_the_images_that_are_shown(data: DataSet, fake_exports: Path):
    (cell,) = on_images_of([fake_cell()], data, fake_exports)
    with np.load(materials(cell, fake_exports).reference.path) as stored:
        assert np.array_equal(stored["inputs"], input_images(SPEC, fake_exports, cell.source))
    assert materials(cell, fake_exports).reference != materials(fake_cell(), fake_exports).reference


def test_the_images_are_part_of_what_a_cell_is(data: DataSet, fake_exports: Path):
    (cell,) = on_images_of([fake_cell()], data, fake_exports)
    assert cell.id != fake_cell().id
    assert replace(cell, source=DataSource(name="renamed", sha256=data.sha256)).id == cell.id


def test_a_row_says_which(data: DataSet, inline_workers, places: Places):
    cells = fake_cell(), *on_images_of([fake_cell()], data, places.exports)
    rows = start(fake_plan(*cells), places)
    assert [row.inputs for row in rows] == [SYNTHETIC, f"{data.name} {data.sha256[:12]}"]
    assert [row.status for row in rows] == ["ok", "ok"]
    assert derive_again(places.folder) == rows


def test_a_run_goes_on_without_its_data_set(folder: Path, inline_workers, places: Places, tmp_path: Path):
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    cells = on_images_of([fake_cell(fault="run")], open_dataset(moved, "test"), places.exports)
    start(fake_plan(*cells), places)
    shutil.rmtree(moved)
    (row,) = resume_run(places, retry_failed=True)
    assert row.inputs.startswith("moved ")
    assert "the script says that running fails" in row.reasons


SHAPE = {"config": "8,M,16,M", "input_size": 32, "num_classes": 5, "classifier_width": 16}


def test_from_python(folder: Path, inline_workers, tmp_path: Path, fake_exports: Path):
    table = vggbench.verify(data=folder, backend="fake", exports=fake_exports, **SHAPE)
    assert set(table["inputs"]) == {DataSource(name=folder.name, sha256=open_dataset(folder, "test").sha256).text}
    quick = {"rounds": 1, "time_budget_s": 0.05, "roofline": False, "threads": 1}
    table = vggbench.run(
        data=folder, backend="fake", output=tmp_path / "run", exports=fake_exports, **SHAPE, **quick, precision="fp32"
    )
    assert table["inputs"].tolist() == [f"{folder.name} {open_dataset(folder, 'test').sha256[:12]}"]


@pytest.mark.slow
def test_torch_is_held_against_the_reference_on_real_images(data: DataSet, inline_workers, tmp_path: Path):
    cells = on_images_of([fake_cell(backend="torch"), fake_cell(backend="onnxruntime")], data, tmp_path / "exports")
    rows = start(fake_plan(*cells), Places(folder=tmp_path / "run", exports=tmp_path / "exports"))
    assert all(row.parity_error < row.parity_tolerance for row in rows)
    assert {row.inputs for row in rows} == {f"{data.name} {data.sha256[:12]}"}
