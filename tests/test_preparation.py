from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fakes import SPEC, fake_cell, fake_plan
from vggbench.artefacts.artefact import check_files
from vggbench.errors import ArtefactError, ExportError
from vggbench.models.layers import totals, walk
from vggbench.models.spec import make_spec
from vggbench.preparation import materials, prepare_all
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
    found = materials(fake_cell(backend=backend), tmp_path)
    assert (found.artefact.kind, found.reference.kind) == (kind, "reference")
    assert materials(fake_cell(backend=backend), tmp_path) == found


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
