from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests import network_files
from tests.fakes import SPEC, fake_cell, fake_plan
from vggbench.artefacts.artefact import check_files
from vggbench.artefacts.network_file import network_artefact, read_network_file
from vggbench.errors import ArtefactError, ExportError
from vggbench.models.layers import totals, walk
from vggbench.models.spec import make_spec
from vggbench.plan import Cell
from vggbench.preparation import materials, missing_bytes, prepare_all
from vggbench.results.run_info import Prepared


def test_the_materials_of_a_scripted_cell(fake_exports: Path):
    found = materials(fake_cell(), fake_exports)
    check_files(found.artefact)
    check_files(found.reference)
    assert 0 < found.tolerance < 1
    with np.load(found.reference.path) as arrays:
        assert arrays["inputs"].shape == (8, 3, 32, 32)
        assert arrays["logits"].shape == (8, 5)


def test_a_coarser_precision_has_a_wider_tolerance(fake_exports: Path):
    fp32, bf16 = (materials(fake_cell(precision=precision), fake_exports) for precision in ("fp32", "bf16"))
    assert fp32.tolerance < bf16.tolerance
    assert fp32.artefact == bf16.artefact


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "kind"), [("torch", "weights"), ("onnxruntime", "onnx")])
def test_the_materials_of_a_real_cell(tmp_path: Path, backend: str, kind: str):
    plan = fake_plan(fake_cell(backend=backend))
    assert missing_bytes(plan, tmp_path) > 0
    found = materials(fake_cell(backend=backend), tmp_path)
    assert missing_bytes(plan, tmp_path) == 0
    assert (found.artefact.kind, found.reference.kind) == (kind, "reference")
    assert materials(fake_cell(backend=backend), tmp_path) == found


def test_what_a_plan_writes_is_counted_once_a_network(tmp_path: Path):
    def needed(*cells: Cell) -> int:
        return missing_bytes(fake_plan(*cells), tmp_path)

    torch, onnx = fake_cell(backend="torch"), fake_cell(backend="onnxruntime")
    assert needed(fake_cell()) == needed(replace(onnx, unsupported="no")) == 0
    weights = totals(walk(SPEC)).weight_bytes
    assert needed(torch) > weights + 8 * 4 * 3 * 32**2  # the reference's images
    assert needed(onnx) > needed(torch) + weights
    assert needed(torch, onnx, replace(onnx, batch_size=7), fake_cell()) == needed(onnx)
    other = fake_cell(backend="torch", spec=make_spec("vgg16"))
    assert needed(torch, other) == needed(torch) + needed(other)
    assert needed(other) > totals(walk(make_spec("vgg16"))).weight_bytes


def test_a_file_of_ones_own_is_counted_while_it_is_not_copied(tmp_path: Path):
    network = read_network_file(str(network_files.write(tmp_path / "net.onnx")))
    plan = fake_plan(replace(fake_cell(backend="onnxruntime"), spec=network))
    size = (tmp_path / "net.onnx").stat().st_size
    assert size < missing_bytes(plan, tmp_path / "exports") < size + 200_000
    network_artefact(network, tmp_path / "exports")
    assert missing_bytes(plan, tmp_path / "exports") == 0


def test_every_cell_is_prepared_and_said(fake_exports: Path):
    cells = [fake_cell(), fake_cell(precision="bf16"), fake_cell(batch_size=3, unsupported="no")]
    said = []
    kept, found = prepare_all(fake_plan(*cells), fake_exports, said.append)
    assert said == cells[:2]
    assert set(kept) == set(found) == {cell.id for cell in cells[:2]}
    first = kept[cells[0].id]
    assert first.artefact["sha256"] == found[cells[0].id].artefact.sha256
    assert "/" not in first.artefact["folder"]
    assert first.reference_sha256 == found[cells[0].id].reference.sha256
    assert (first.macs, first.parameters) == (totals(walk(SPEC)).macs, totals(walk(SPEC)).parameters)
    assert first.artefact_bytes > 0
    assert first.failure is None


def test_a_cell_that_cannot_be_prepared_does_not_stop_the_others(fake_exports: Path, monkeypatch: pytest.MonkeyPatch):
    bad = fake_cell(spec=make_spec(config="8,M", input_size=8))

    def broken(cell, exports):
        if cell == bad:
            raise ExportError("it did not work")
        return materials(cell, exports)

    monkeypatch.setattr("vggbench.preparation.materials", broken)
    kept, found = prepare_all(fake_plan(bad, fake_cell()), fake_exports, lambda _: None)
    assert set(found) == {fake_cell().id}
    failure = kept[bad.id].failure
    assert failure is not None
    assert (failure.stage, failure.status, failure.reason) == ("prepare", "failed", "it did not work")
    assert kept[bad.id] == Prepared(failure=failure)


def test_a_wrong_request_stops_everything(fake_exports: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_):
        raise ArtefactError("model.onnx: the file is missing; remove the folder and export again")

    monkeypatch.setattr("vggbench.preparation.materials", broken)
    with pytest.raises(ArtefactError):
        prepare_all(fake_plan(fake_cell()), fake_exports, lambda _: None)
