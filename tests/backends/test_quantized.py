"""int8 and fp8 files in every backend: what ran, and that it is what the file says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vggbench.artefacts.quantization import Calibration
from vggbench.backends.base import Evidence
from vggbench.backends.registry import check_options, find_backend
from vggbench.environment import cpu
from vggbench.measure.validity import judge_evidence, precision_shares
from vggbench.models.layers import mac_layers
from vggbench.models.spec import make_spec
from vggbench.parity.check import Verdict, check
from vggbench.plan import Cell, parse_backend
from vggbench.preparation import materials

SHAPE = {"input_size": 32, "num_classes": 10, "classifier_width": 64, "head": "flatten"}  # every product is a layer's
SPEC = make_spec(config="16,16,M,32,32,M", batch_norm=True, **SHAPE)
MACS = sum(layer.macs for layer in mac_layers(SPEC))


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


def run(exports: Path, text: str, precision: str, method: str = "min-max") -> tuple[Evidence, Verdict]:
    """Return what a backend says that it did, and how far its outputs are from the file's own."""
    name, options = parse_backend(text)
    backend = find_backend(name)
    asked = {"device": "cpu", "precision": precision, "batch_size": 8, "threads": 1, "in_flight": 1}
    options = check_options(backend, options)
    calibration = Calibration(images=8, method=method).options
    found = materials(Cell(spec=SPEC, backend=name, options=options, export_options=calibration, **asked), exports)
    with np.load(found.reference.path) as arrays:
        inputs, logits, exact = arrays["inputs"], arrays["logits"], arrays["exact_logits"]
    opening = {**asked, "options": options}
    with backend.open(found.artefact, **opening) as session:
        session.stage(0, inputs)
        session.enqueue(0)
        session.wait(0)
        return session.evidence(), check(session.fetch(0), logits, found.tolerance, exact=exact)


def judged(evidence: Evidence, precision: str) -> list[str]:
    found = judge_evidence(evidence, precision=precision, device="cpu", batch_size=8, threads=1, macs=MACS)
    return [finding.status for finding in found]


@pytest.mark.slow
@pytest.mark.skipif(not cpu.has_arithmetic("int8"), reason="this CPU has no instructions for products of 8-bit numbers")
@pytest.mark.parametrize("method", ["min-max", "percentile"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "openvino:layout=trt"])
def test_int8_runs_as_int8_and_computes_what_the_file_says(exports: Path, backend: str, method: str):
    evidence, verdict = run(exports, backend, "int8", method)
    assert judged(evidence, "int8") == []
    seen = sum(layer.macs for layer in evidence.layers) / (8 * MACS)
    # OpenVINO makes one kernel of the last two products, which are small here, and says of neither what it is.
    assert seen == 1 if backend == "onnxruntime" else 0.99 < seen <= 1
    assert verdict.reasons == ()
    assert 0 < (verdict.quantization_error or 0) < 0.5


@pytest.mark.slow
def test_tensorrts_layout_runs_in_fp32_in_onnxruntime_and_says_so(exports: Path):
    evidence, verdict = run(exports, "onnxruntime:layout=trt", "int8")
    assert precision_shares(evidence) == {"fp32": 1.0}
    assert judged(evidence, "int8") == ["precision_mismatch"]
    assert verdict.passed, "what it computes is right"


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "precision"), [("", "int8"), (":layout=trt", "int8"), ("", "fp8")])
def test_onnxs_reference_is_told_by_what_products_are_dequantised_from(exports: Path, backend: str, precision: str):
    evidence, verdict = run(exports, f"onnx-reference{backend}", precision)
    assert precision_shares(evidence) == {precision: 1.0}
    assert verdict.reasons == ()


@pytest.mark.slow
def test_an_fp8_file_is_what_onnxruntime_makes_of_it_without_any_optimisation(exports: Path):
    """A second opinion: with optimisation it refuses the file, or computes something else."""
    import onnxruntime

    asked: dict[str, Any] = {"device": "cpu", "precision": "fp8", "batch_size": 8, "threads": 1, "in_flight": 1}
    calibration = Calibration(images=8).options
    found = materials(
        Cell(spec=SPEC, backend="onnx-reference", options={}, export_options=calibration, **asked), exports
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(found.artefact.path, options, providers=["CPUExecutionProvider"])
    with np.load(found.reference.path) as arrays:
        (outputs,) = session.run(["logits"], {"input": arrays["inputs"]})
        assert check(outputs, arrays["logits"], found.tolerance).reasons == ()


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_what_a_cpu_does_not_do_natively_is_unsupported(name: str, monkeypatch: pytest.MonkeyPatch):
    backend = find_backend(name)
    assert "emulates fp8" in backend.supports("fp8", "cpu").reason
    monkeypatch.setattr(f"vggbench.backends.{name}.has_arithmetic", lambda precision: precision != "int8")
    support = backend.supports("int8", "cpu")
    assert (support.supported, "VNNI" in support.reason) == (False, True)


@pytest.mark.parametrize(
    ("flags", "native"),
    [("fpu avx2 avx512f", False), ("fpu avx512_vnni", True), ("fpu avx_vnni", True), ("fpu amx_int8", True)],
)
def test_which_processors_multiply_8_bit_numbers(tmp_path: Path, flags: str, native: bool):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    assert cpu.has_arithmetic("int8", tmp_path) is native
    assert cpu.has_arithmetic("int8", tmp_path / "elsewhere"), "a system that does not tell is tried"
