"""Which precisions are planned, and what decides the file of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import network_files
from tests.fakes import fake_cell, fake_plan, known
from vggbench.artefacts.quantization import QUANTIZED_PRECISIONS
from vggbench.backends.base import PRECISIONS
from vggbench.errors import RequestError
from vggbench.measure.client import BackendProbe
from vggbench.plan import Cell, expand, read_plan_file, selection
from vggbench.preparation import onnx_form
from vggbench.results.rows import derive_rows
from vggbench.results.run_info import read_run_info, write_run_info
from vggbench.runner import new_info

NARROW = {"config": "8,M,16", "input_size": 8}
NATIVE = dict.fromkeys(PRECISIONS, "")


def everything(name: str) -> BackendProbe:
    return known(name, NATIVE)


def cells_of(probe: Callable[[str], BackendProbe] = everything, **chosen: Any) -> tuple[Cell, ...]:
    return expand([selection(NARROW | chosen)], device="cpu", threads=1, probe=probe)


def files(**chosen: Any) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return the precision of every cell, of its file, and the layers kept in it."""
    forms = [(cell.precision, onnx_form(cell)) for cell in cells_of(**chosen)]
    return [(precision, form.precision, form.keep_fp32) for precision, form in forms]


def test_unnamed_precisions_are_those_that_keep_the_default_plan_short():
    assert [cell.precision for cell in cells_of(backend="onnx-reference")] == ["fp32", "bf16", "int8"]
    assert [cell.precision for cell in cells_of(probe=known, backend="onnx-reference")] == ["fp32", "bf16"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_may_be_named(precision: str):
    images = {"calibration": "synthetic"} if precision in QUANTIZED_PRECISIONS else {}
    (cell,) = cells_of(backend="onnx-reference", precision=precision, **images)
    assert (cell.precision, cell.unsupported) == (precision, "")


def test_a_file_has_the_types_that_the_backend_goes_by():
    asked = ["fp32", "fp16", "bf16"]
    typed = [(precision, precision, ()) for precision in asked]
    assert files(backend="onnx-reference", precision=asked) == typed
    assert files(backend="onnxruntime", precision=asked) == typed
    assert files(backend="openvino:bf16=typed", precision=["fp32", "bf16"]) == [typed[0], typed[2]]
    hinted = [(precision, "fp32", ()) for precision in asked]
    assert files(backend="openvino", precision=asked) == hinted


def test_layers_are_kept_in_the_files_that_have_another_type_alone():
    backends = ["onnx-reference", "openvino", "torch"]
    cells = cells_of(backend=backends, precision=["fp32", "bf16"], keep_fp32=["features.3", "features.0"])
    kept = {(cell.backend, cell.precision): dict(cell.export_options) for cell in cells if cell.export_options}
    assert kept == {("onnx-reference", "bf16"): {"keep_fp32": "features.0,features.3"}}


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"keep_fp32": "features.1"}, "custom has no layer 'features.1' to keep in fp32; did you mean features"),
        ({"keep_fp32": "xyz"}, "has no layer 'xyz' to keep in fp32; did you mean features"),
        ({"keep_fp32": "features.0", "precision": "fp32"}, "none of the cells opens one; name such a precision"),
        (
            {"keep_fp32": "features.0", "backend": ["torch", "openvino"], "precision": "bf16"},
            "none of the cells opens one",
        ),
        ({"precision": "fp64"}, "unknown precision 'fp64'"),
    ],
)
def test_a_layer_that_cannot_be_kept_is_refused(chosen: dict[str, Any], words: str):
    with pytest.raises(RequestError, match=words):
        cells_of(**{"backend": "onnx-reference", "precision": "fp16"} | chosen)


def test_a_file_of_ones_own_is_opened_as_it_is(tmp_path: Path):
    path = str(network_files.write(tmp_path / "net.onnx"))
    chosen = selection({"onnx": path, "precision": "fp16", "backend": "onnx-reference"})
    (cell,) = expand([chosen], device="cpu", threads=1, probe=everything)
    assert not cell.export_options
    with pytest.raises(RequestError, match="keep_fp32 cannot be chosen for an ONNX file"):
        expand([selection({"onnx": path, "keep_fp32": "a"})], device="cpu", threads=1, probe=everything)


def test_what_decides_the_file_is_part_of_the_cell():
    cell = fake_cell(precision="bf16")
    kept, other = (replace(cell, export_options={"keep_fp32": name}) for name in ("features.0", "features.3"))
    assert len({cell.id, kept.id, other.id}) == 3
    assert replace(cell, export_options={}).id == cell.id
    assert kept.title == "custom fake fault=none bf16 keep_fp32=features.0 batch 2"


def test_a_stored_plan_has_it_again(tmp_path: Path, still_environment: None):
    info = new_info(fake_plan(replace(fake_cell(), export_options={"keep_fp32": "features.0"}), fake_cell()), {})
    write_run_info(tmp_path, info)
    assert read_run_info(tmp_path).plan == info.plan


def test_a_plan_file_keeps_layers_together(tmp_path: Path):
    path = tmp_path / "plan.toml"
    path.write_text(
        '[[cells]]\nconfig = "8,M,16"\ninput_size = 8\nbackend = "onnx-reference"\n'
        'precision = ["fp16", "bf16"]\nkeep_fp32 = ["features.3", "features.0"]\n'
    )
    cells = expand(read_plan_file(path).cells, device="cpu", threads=1, probe=everything)
    assert [dict(cell.export_options) for cell in cells] == 2 * [{"keep_fp32": "features.0,features.3"}]


def test_a_row_says_what_decided_the_file(still_environment: None):
    cell = replace(fake_cell(precision="bf16"), export_options={"keep_fp32": "features.0,features.3"})
    rows = derive_rows(new_info(fake_plan(cell, fake_cell()), {}), [])
    assert [row.export_options for row in rows] == ["keep_fp32=features.0,features.3", None]
