"""`import vggbench`, on the fake backend."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import vggbench
from tests.fakes import SPEC
from vggbench.artefacts import onnx, tensorrt
from vggbench.artefacts.engine_form import EngineForm
from vggbench.artefacts.onnx_form import OnnxForm
from vggbench.errors import RequestError, RunFolderError, UnknownVariantError
from vggbench.results.columns import COLUMNS
from vggbench.results.run_info import FILE_NAME

TINY: dict[str, Any] = {"config": "8,M,16,M", "input_size": 32, "num_classes": 5, "classifier_width": 16}
QUICK: dict[str, Any] = {"rounds": 2, "time_budget_s": 0.05, "threads": 1}


@pytest.fixture
def run(inline_workers: None, tmp_path: Path, fake_exports: Path) -> Callable[..., pd.DataFrame]:
    def call(**changes: Any) -> pd.DataFrame:
        return vggbench.run(
            **{"backend": "fake", "output": tmp_path / "run", "exports": fake_exports, **TINY, **QUICK, **changes}
        )

    return call


def test_a_run_is_a_frame_with_the_csvs_columns_and_values(run, tmp_path: Path):
    table = run(batch_size=[1, 2], precision="fp32")
    assert list(table.columns) == list(COLUMNS)
    assert table["batch_size"].tolist() == [1, 2]
    assert table["status"].tolist() == ["ok", "ok"]
    stored = pd.read_csv(tmp_path / "run" / "results.csv")
    assert stored["latency_ms"].tolist() == table["latency_ms"].tolist() == [1.0, 1.0]


def test_a_failure_is_a_row(run):
    assert run(backend=["fake:fault=open", "fake"], precision="fp32")["status"].tolist() == ["failed", "ok"]


def test_the_shape_reaches_the_plan(run, tmp_path: Path):
    run(seed=3, weights="init", precision=("fp32",))
    (cell,) = json.loads((tmp_path / "run" / FILE_NAME).read_text())["plan"]["cells"]
    assert (cell["spec"]["seed"], cell["spec"]["weights"]) == (3, "init")


def test_rounds_have_a_default(run, tmp_path: Path):
    run(rounds=None, precision="fp32")
    assert json.loads((tmp_path / "run" / FILE_NAME).read_text())["plan"]["rounds"] == 6


def test_replicas_are_rows_of_their_own(run):
    table = run(replicas=2, precision="fp32")
    assert table["replica"].tolist() == [1, 2]
    assert table["cell_id"].nunique() == 2


def test_a_folder_is_used_once(run):
    run(precision="fp32")
    with pytest.raises(RunFolderError, match="holds a run already"):
        run(precision="fp32")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": "red"}, "'colour' is no key here"),
        ({"batch_size": 1.5}, "batch_size.0: Input should be a valid integer, not 1.5"),
        ({"rounds": 0}, "rounds is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"backend": "pytorch"}, "did you mean torch?"),
        ({"variant": "vgg17"}, "vgg16"),
    ],
)
def test_a_wrong_request(run, tmp_path: Path, changes: dict[str, Any], words: str):
    with pytest.raises(RequestError) as caught:
        run(**changes)
    assert words in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_verifying(inline_workers: None, fake_exports: Path):
    table = vggbench.verify(backend=["fake", "fake:fault=wrong"], precision="fp32", exports=fake_exports, **TINY)
    assert table["status"].tolist() == ["ok", "parity_failed"]
    assert table["latency_ms"].isna().all()


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"format": "tensorflow"}, "no file of format 'tensorflow' is written; give onnx, tensorrt-rtx, tensorrt"),
        ({"batch_size": "1:8:32"}, "--batch-size is for engines"),
        ({"format": "tensorrt-rtx", "batch_size": "8:1"}, "give MIN:OPT:MAX"),
        ({"format": "tensorrt", "compute_capability": "8.9"}, "--compute-capability is for tensorrt-rtx"),
        ({"precision": "fp16,bf16"}, "no file of precision 'fp16,bf16' is written"),
    ],
)
def test_what_no_file_can_be_is_refused(tmp_path: Path, asked: dict[str, Any], complaint: str):
    with pytest.raises(RequestError, match=complaint):
        vggbench.export(**TINY, **asked, exports=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_exporting_an_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    noted: list[Any] = []
    monkeypatch.setattr(tensorrt, "engine_artefact", lambda *asked, **_named: noted.append(asked))
    options: dict[str, Any] = {"batch_size": "1:4:8", "optimization_level": 2, "compute_capability": "8.9"}
    vggbench.export(
        **TINY, precision="int8", calibration="synthetic", format="tensorrt-rtx", exports=tmp_path, **options
    )
    ((_spec, folder, form, engine),) = noted
    assert (folder, form.precision, form.layout) == (tmp_path, "int8", "trt")
    assert engine == EngineForm(batch_sizes=(1, 4, 8), optimization_level=2, compute_capabilities=("SM89",))


def test_exporting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked = []
    monkeypatch.setattr(onnx, "onnx_artefact", lambda *given, **named: asked.append((*given, named)))
    vggbench.export(exports=str(tmp_path), **TINY)
    vggbench.export("D", opset=0, fold_batch_norm=False, external_data=False)
    assert asked[0] == (SPEC, tmp_path, {"form": OnnxForm(), "hash_existing": True})
    form = OnnxForm(opset=0, fold_batch_norm=False, external_data=False)
    assert (asked[1][0].variant, asked[1][1:]) == ("vgg16", (Path("exports"), {"form": form, "hash_existing": True}))


def test_building():
    module = vggbench.build(**TINY)
    assert not module.training
    assert sum(parameter.numel() for parameter in module.parameters()) > 0
    with pytest.raises(UnknownVariantError):
        vggbench.build("vgg17")


def test_a_run_without_a_folder_gets_one_of_its_moment(inline_workers, tmp_path, fake_exports, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = vggbench.run(backend="fake", exports=fake_exports, **TINY, **QUICK)
    [folder] = (tmp_path / "reports").iterdir()
    assert (folder / "results.csv").is_file()
    assert list(table["status"]) == ["ok"] * len(table)
