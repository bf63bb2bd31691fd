"""What int8 and fp8 cells are calibrated with: asked for, chosen, refused, and part of what a cell is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import network_files
from tests.data.writing import write_folders
from tests.fakes import fake_cell, fake_plan, known
from vggbench.artefacts.quantization import Calibration
from vggbench.backends.base import PRECISIONS
from vggbench.errors import DataError, RequestError
from vggbench.measure.client import BackendProbe
from vggbench.plan import Cell, expand, selection
from vggbench.preparation import onnx_form
from vggbench.results.rows import derive_rows
from vggbench.runner import new_info

NARROW = {"config": "8,M,16", "input_size": 8, "num_classes": 5}


def everything(name: str) -> BackendProbe:
    return known(name, dict.fromkeys(PRECISIONS, ""))


def cells_of(**chosen: Any) -> tuple[Cell, ...]:
    return expand([selection(NARROW | chosen)], device="cpu", threads=1, probe=everything)


def test_nothing_named_calibrates_with_synthetic_images_and_says_so():
    cells = {cell.precision: cell for cell in cells_of(backend="openvino")}
    assert cells["int8"].export_options["calibration"] == "synthetic"
    assert "calibration=synthetic" in cells["int8"].title
    assert not cells["fp32"].export_options
    assert not cells["bf16"].export_options


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_a_precision_that_is_named_needs_images(precision: str):
    with pytest.raises(RequestError) as caught:
        cells_of(backend="onnxruntime", precision=["fp32", precision])
    assert str(caught.value).startswith(f"{precision} needs images that ranges are taken from: give --calibration DIR")
    assert "--calibration synthetic" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_backend_that_opens_no_onnx_needs_none():
    (cell,) = cells_of(backend="torch", precision="int8")
    assert not cell.export_options


def test_images_that_calibrate_nothing_are_refused():
    for chosen in ({"precision": "fp32"}, {"backend": "torch", "precision": "int8"}):
        for option in ({"calibration": "synthetic"}, {"calibration_method": "entropy"}):
            with pytest.raises(RequestError, match="images calibrate files of int8 or fp8, and none of the cells"):
                cells_of(**{"backend": "onnxruntime"} | chosen | option)


def test_a_method_and_a_folder_that_there_are_not(tmp_path: Path):
    with pytest.raises(RequestError, match="calibration method is 'best'"):
        cells_of(backend="onnxruntime", precision="int8", calibration="synthetic", calibration_method="best")
    with pytest.raises(DataError, match="does not exist"):
        cells_of(backend="onnxruntime", precision="int8", calibration=str(tmp_path / "none"))


def test_the_layout_is_the_backends_unless_another_is_asked_for():
    def layouts(backend: str, precision: str) -> list[str]:
        asked = {"backend": backend, "precision": precision, "calibration": "synthetic"}
        return [onnx_form(cell).layout for cell in cells_of(**asked)]

    for backend in ("onnxruntime", "openvino", "onnx-reference"):
        assert layouts(backend, "int8") == ["ort"]
        assert layouts(f"{backend}:layout=trt", "int8") == ["trt"]
        assert layouts(backend, "fp8") == ["trt"]
        with pytest.raises(RequestError, match="layout of fp8 is 'ort'; it can be trt"):
            layouts(f"{backend}:layout=ort", "fp8")


def test_a_cell_is_its_images_and_not_their_place(tmp_path: Path):
    import numpy as np

    pictures = {name: [np.full((9, 9, 3), shade, np.uint8) for shade in (3, 90)] for name in ("cat", "dog")}
    for place in ("here", "there"):
        write_folders(tmp_path / place, pictures)
    write_folders(tmp_path / "other", {**pictures, "eel": pictures["cat"]})

    def cell(where: str, **more: str) -> Cell:
        chosen = {"backend": "openvino", "precision": "int8", "calibration": where, **more}
        (made,) = cells_of(**chosen)
        return made

    here, there = (cell(str(tmp_path / place)) for place in ("here", "there"))
    assert here.id == there.id
    assert here.export_options["calibration"] == str(tmp_path / "here")
    assert str(tmp_path) not in here.title
    assert f"calibration_sha256={here.export_options['calibration_sha256'][:12]} " in here.title
    others = [cell(str(tmp_path / "other")), cell("synthetic"), cell("synthetic", calibration_method="entropy")]
    assert len({here.id, *(other.id for other in others)}) == 4


def test_a_file_of_ones_own_is_not_quantised(tmp_path: Path):
    path = str(network_files.write(tmp_path / "net.onnx"))
    asked = {"onnx": path, "backend": "onnxruntime"}
    unnamed = expand([selection(asked)], device="cpu", threads=1, probe=everything)
    assert [cell.precision for cell in unnamed] == ["fp32", "bf16"]


def test_a_row_says_that_images_were_synthetic_and_what_it_is_held_against(still_environment: None):
    cell = replace(fake_cell(precision="int8"), export_options=Calibration().options)
    (row,) = derive_rows(new_info(fake_plan(cell), {}), [])
    assert row.export_options == "calibration=synthetic calibration_images=32 calibration_method=min-max"
    assert row.reference == "quantised file in float64"
