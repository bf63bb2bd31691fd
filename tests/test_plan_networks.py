"""Cells of networks that are given as files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import fake_plan, known, missing
from tests.network_files import residual, write
from vggbench.errors import NothingToJudge, RequestError
from vggbench.models.network_file import NetworkFile
from vggbench.plan import Cell, expand, selection
from vggbench.results.rows import derive_rows
from vggbench.results.run_info import read_run_info, write_run_info
from vggbench.runner import new_info


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(write(tmp_path / "net.onnx"))


def cells_of(probe: Any = known, **chosen: Any) -> tuple[Cell, ...]:
    return expand([selection(chosen)], device="cpu", threads=1, probe=probe)


def test_without_names_the_backends_are_those_that_open_the_file(path: str):
    probed: list[str] = []

    def probe(name: str) -> Any:
        probed.append(name)
        return known(name)

    cells = cells_of(probe, onnx=path)
    assert {cell.backend for cell in cells} == {"onnxruntime", "openvino"} == set(probed)
    assert {cell.precision for cell in cells} == {"fp32", "bf16"}
    assert {cell.unsupported for cell in cells} == {""}
    assert cells[0].title.startswith("net onnxruntime ")


@pytest.mark.parametrize("backend", ["torch", "torch:memory_format=channels_last", "fake", "null"])
def test_one_that_opens_none_is_unsupported_where_it_is_named(path: str, backend: str):
    (cell, other) = cells_of(onnx=path, backend=[backend, "openvino"], precision="fp32")
    assert cell.unsupported == f"{cell.backend} opens no ONNX file; measure it with onnxruntime or openvino"
    assert other.unsupported == ""


def test_beside_variants_each_has_its_backends(path: str):
    cells = cells_of(onnx=[path], variant="vgg11", config="8,M", precision="fp32")
    found = [(cell.spec.variant, cell.backend) for cell in cells]
    everywhere = [(name, backend) for name in ("vgg11", "custom") for backend in ("torch", "onnxruntime", "openvino")]
    assert set(everywhere) < set(found)
    assert sorted(backend for name, backend in found if name == "net") == ["onnxruntime", "openvino"]


def test_no_backend_that_opens_it_is_there(path: str):
    with pytest.raises(NothingToJudge):
        cells_of(missing, onnx=path)


@pytest.mark.parametrize(
    "shape",
    [{"head": "flatten"}, {"num_classes": 5}, {"weights": "init"}, {"outputs": "probabilities"}, {"batch_norm": True}],
)
def test_what_the_file_has_settled_cannot_be_chosen(path: str, shape: dict[str, Any]):
    with pytest.raises(RequestError, match=f"{next(iter(shape))} cannot be chosen for an ONNX file"):
        cells_of(onnx=path, **shape)


def test_a_wrong_file_is_said_before_any_backend_is_probed(tmp_path: Path):
    def probe(_name: str) -> Any:
        raise AssertionError("probed")

    with pytest.raises(RequestError, match="does not exist"):
        cells_of(probe, onnx=str(tmp_path / "none.onnx"))


class TestFixedBatch:
    @pytest.fixture
    def fixed(self, tmp_path: Path) -> str:
        return str(write(tmp_path / "four.onnx", residual(batch=4)))

    @pytest.mark.parametrize("asked", [{}, {"batch_size": 4}])
    def test_it_is_the_one_that_is_measured(self, fixed: str, asked: dict[str, Any]):
        assert {cell.batch_size for cell in cells_of(onnx=fixed, **asked)} == {4}

    @pytest.mark.parametrize(("asked", "words"), [([1], "1 was asked for"), ([1, 4], "1, 4 was asked for")])
    def test_another_is_refused(self, fixed: str, asked: list[int], words: str):
        with pytest.raises(RequestError, match=f"four takes batches of 4 images only; {words}"):
            cells_of(onnx=fixed, batch_size=asked)

    def test_it_has_a_limit(self, tmp_path: Path):
        with pytest.raises(RequestError, match="batch size is 1000000000; it must be from 1 to"):
            cells_of(onnx=str(write(tmp_path / "net.onnx", residual(batch=10**9))))

    def test_beside_other_networks_they_keep_the_default(self, fixed: str):
        cells = cells_of(onnx=fixed, variant="vgg11")
        assert {(cell.spec.variant, cell.batch_size) for cell in cells} == {("vgg11", 1), ("four", 4)}


def test_a_stored_plan_has_it_again(path: str, tmp_path: Path, still_environment: None):
    cells = cells_of(onnx=path, variant="vgg11", precision="fp32")
    info = new_info(fake_plan(*cells), {})
    write_run_info(tmp_path, info)
    assert read_run_info(tmp_path).plan == info.plan
    assert isinstance(cells[-1].spec, NetworkFile)


def test_a_stored_plan_that_was_edited_is_refused_by_the_right_name(path: str, tmp_path: Path, still_environment: None):
    info = new_info(fake_plan(*cells_of(onnx=path)), {})
    data = json.loads(json.dumps(asdict(info)))
    del data["plan"]["cells"][0]["spec"]["sha256"]
    (tmp_path / "run.json").write_text(json.dumps(data))
    with pytest.raises(RequestError, match=r"plan.cells.0.spec.onnx.sha256: Field required"):
        read_run_info(tmp_path)


def test_its_row_says_what_it_is_and_leaves_empty_what_a_vgg_has(path: str, still_environment: None):
    cells = cells_of(onnx=path, precision="fp32", backend="onnxruntime")
    (row,) = derive_rows(new_info(fake_plan(*cells), {}), [])
    spec = cells[0].spec
    assert isinstance(spec, NetworkFile)
    assert (row.variant, row.reference, row.input_size, row.num_classes) == ("net", "against itself", 16, 5)
    assert row.weights == f"file {spec.sha256[:12]}"
    assert row.spec_hash == spec.digest()
    assert {row.configuration, row.head, row.classifier_width, row.local_response_norm, row.outputs} == {None}
