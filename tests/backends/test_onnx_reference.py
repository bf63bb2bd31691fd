"""ONNX's own evaluator as a backend: whether its operators are the standard's, and what it says of what ran."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import threadpoolctl
from onnx import helper
from onnx.reference import ReferenceEvaluator

from tests import network_files
from tests.artefacts.networks import narrow, sample
from vggbench.artefacts.artefact import Artefact
from vggbench.artefacts.exported import exported
from vggbench.artefacts.network_file import network_artefact, read_network_file
from vggbench.artefacts.onnx_form import OnnxForm
from vggbench.backends.base import Session, Unavailable
from vggbench.backends.onnx_operators import operators
from vggbench.backends.registry import find_backend
from vggbench.measure.validity import Finding, judge_evidence
from vggbench.models.layers import mac_layers, totals, walk
from vggbench.plan import expand, selection
from vggbench.preparation import onnx_form
from vggbench.results.findings import _kept_macs

SPEC = narrow()
MACS = totals(walk(SPEC)).macs
KEPT = ("classifier.0", "features.0", "features.3")


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


def open_session(backend: str, artefact: Artefact, precision: str, **options: str) -> Session:
    return find_backend(backend).open(
        artefact, device="cpu", precision=precision, batch_size=3, threads=2, in_flight=1, options=options
    )


def findings(session: Session, precision: str, kept_fp32_macs: int = 0) -> list[Finding]:
    session.stage(0, sample(SPEC))
    session.enqueue(0)
    session.wait(0)
    return judge_evidence(
        session.evidence(),
        precision=precision,
        device="cpu",
        batch_size=3,
        threads=2,
        macs=MACS,
        kept_fp32_macs=kept_fp32_macs,
    )


# Operators


def both(node: onnx.NodeProto, *values: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """Yield what our operator and what onnx's own make of a node."""
    feeds = dict(zip(node.input, values, strict=True))
    for ours in (operators(), []):
        yield ReferenceEvaluator(node, new_ops=ours).run(None, feeds)[0]


def drawn(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize(
    ("attributes", "weights"),
    [
        ({"pads": [1, 1, 1, 1]}, (5, 4, 3, 3)),
        ({"pads": [2, 0, 1, 3], "strides": [2, 1]}, (5, 4, 3, 2)),
        ({}, (5, 4, 1, 1)),
        ({"pads": [1, 1, 1, 1], "group": 2}, (6, 2, 3, 3)),
        ({"dilations": [2, 2]}, (5, 4, 3, 3)),
        ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, (5, 4, 3, 3)),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_is_the_standards(attributes: dict[str, Any], weights: tuple[int, ...], bias: bool):
    names = ["x", "w", *(["b"] if bias else [])]
    values = [drawn(3, 4, 9, 8), drawn(*weights), *([drawn(weights[0])] if bias else [])]
    found, expected = both(helper.make_node("Conv", names, ["y"], **attributes), *values)
    assert found.dtype == expected.dtype == np.float32
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attributes", [{}, {"transA": 1}, {"transB": 1}, {"alpha": 0.5, "beta": -2.0}])
@pytest.mark.parametrize("bias", [True, False])
def test_a_general_product_is_the_standards(attributes: dict[str, Any], bias: bool):
    left = drawn(*((7, 4) if attributes.get("transA") else (4, 7)))
    right = drawn(*((5, 7) if attributes.get("transB") else (7, 5)))
    names = ["a", "b", *(["c"] if bias else [])]
    node = helper.make_node("Gemm", names, ["y"], **attributes)
    found, expected = both(node, left, right, *([drawn(5)] if bias else []))
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [2, 2], "dilations": [2, 2]},
    ],
)
def test_a_pool_is_the_standards(attributes: dict[str, Any]):
    found, expected = both(helper.make_node("MaxPool", ["x"], ["y"], **attributes), drawn(2, 3, 9, 8) - 3)
    assert np.array_equal(found, expected)


def test_a_pool_may_be_padded_unevenly():
    values = drawn(2, 3, 9, 8) - 3
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 2], pads=[1, 0, 1, 1])
    found, _onnx_has_another_shape = both(node, values)
    padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (0, 1)), constant_values=-np.inf)
    for row, column in ((0, 0), (4, 3), (8, 7)):
        window = padded[:, :, row : row + 3, column : column + 2]
        assert np.array_equal(found[:, :, row, column], window.max(axis=(2, 3)))
    assert found.shape == values.shape


@pytest.mark.parametrize("name", ["FLOAT16", "BFLOAT16"])
def test_products_of_short_types_are_summed_in_fp32_and_rounded_once(name: str):
    dtype = helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(name))
    images, weights, bias = drawn(2, 8, 6, 6, dtype=dtype), drawn(4, 8, 3, 3, dtype=dtype), drawn(4, dtype=dtype)
    wide = [values.astype(np.float64) for values in (images, weights, bias)]
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"])
    (exact,) = ReferenceEvaluator(node).run(None, dict(zip(node.input, wide, strict=True)))
    (found,) = ReferenceEvaluator(node, new_ops=operators()).run(
        None, dict(zip(node.input, (images, weights, bias), strict=True))
    )
    # One rounding of the exact sum, but for sums that fp32 leaves on the other side of a rounding's middle.
    assert found.dtype == dtype
    assert np.mean(found == exact.astype(dtype)) > 0.98
    product = helper.make_node("MatMul", ["a", "b"], ["y"])
    long = drawn(1, 4096, dtype=dtype), np.ones((4096, 1), dtype)
    (summed,) = ReferenceEvaluator(product, new_ops=operators()).run(None, dict(zip("ab", long, strict=True)))
    assert summed[0, 0] == np.sum(long[0].astype(np.float64)).astype(dtype)


# What it says of what ran


@pytest.mark.parametrize(("precision", "opset"), [("fp32", 20), ("fp16", 20), ("bf16", 22)])
def test_layers_are_named_with_the_types_that_they_were_seen_with(exports: Path, precision: str, opset: int):
    artefact = exported(SPEC, exports, OnnxForm(precision=precision, opset=opset))
    with open_session("onnx-reference", artefact, precision) as session:
        session.stage(0, sample(SPEC))
        session.enqueue(0)
        evidence = session.evidence()
    layers = mac_layers(SPEC, 3)
    seen = [(layer.name, layer.macs) for layer in evidence.layers if not layer.name.startswith("avgpool")]
    assert seen == [(layer.name, layer.macs) for layer in layers]
    assert {layer.precision for layer in evidence.layers} == {precision}
    assert (evidence.flags["role"], evidence.flags["accumulation"]) == ("oracle", "fp32")


def test_a_file_of_another_type_than_was_asked_for_is_told(exports: Path):
    with open_session("onnx-reference", exported(SPEC, exports), "fp16") as session:
        (finding,) = findings(session, "fp16")
    assert finding.status == "precision_mismatch"
    assert "fp16 was asked, of the MACs ran 100% in fp32" in finding.reason


@pytest.mark.parametrize(
    ("backend", "precision", "options"),
    [("onnx-reference", "fp16", {}), ("onnx-reference", "bf16", {}), ("openvino", "bf16", {"bf16": "typed"})],
)
def test_kept_layers_are_asked_for_and_seen(exports: Path, backend: str, precision: str, options: dict[str, str]):
    support = find_backend(backend).supports(precision, "cpu")
    if not support.supported:
        pytest.skip(support.reason)
    form = OnnxForm.of_cell(precision, {"keep_fp32": ",".join(KEPT)})
    kept = sum(layer.macs for layer in mac_layers(SPEC) if layer.name in KEPT)
    assert kept > 0.05 * MACS
    with open_session(backend, exported(SPEC, exports, form), precision, **options) as session:
        assert findings(session, precision, kept_fp32_macs=kept) == []
        (finding,) = findings(session, precision)
        assert finding.status == "precision_mismatch"
    whole = exported(SPEC, exports, replace(form, keep_fp32=()))
    with open_session(backend, whole, precision, **options) as session:
        (finding,) = findings(session, precision, kept_fp32_macs=kept)
        assert f"{precision} with {kept / MACS:.0%} of the MACs kept in fp32 was asked" in finding.reason


def test_onnx_runtime_is_seen_to_widen_an_fp16_file(exports: Path):
    with open_session("onnxruntime", exported(SPEC, exports, OnnxForm(precision="fp16")), "fp16") as session:
        (finding,) = findings(session, "fp16")
    assert finding.status == "precision_mismatch"
    assert "in fp32" in finding.reason


def test_what_was_kept_is_known_from_the_cell():
    native = type("Probe", (), {"available": True, "reason": "", "remedy": "", "precisions": {"fp16": ""}})()
    chosen = {"config": SPEC.configuration, "input_size": 32, "classifier_width": 64, "num_classes": 10}
    chosen |= {"backend": "onnx-reference", "precision": "fp16", "keep_fp32": list(KEPT)}
    (cell,) = expand([selection(chosen)], device="cpu", threads=1, probe=lambda name: native)
    assert onnx_form(cell).keep_fp32 == KEPT
    assert _kept_macs(cell) == sum(layer.macs for layer in mac_layers(SPEC) if layer.name in KEPT)
    assert _kept_macs(replace(cell, export_options={})) == 0


def test_a_file_of_ones_own_is_evaluated_too(tmp_path: Path):
    network = read_network_file(str(network_files.write(tmp_path / "net.onnx")))
    with open_session("onnx-reference", network_artefact(network, tmp_path), "fp32") as session:
        session.stage(0, sample(network))
        session.enqueue(0)
        evidence = session.evidence()
        assert session.fetch(0).shape == (3, network.num_classes)
    assert sum(layer.macs for layer in evidence.layers) == 3 * network_files.MACS


def test_numpy_gets_its_threads_back(exports: Path):
    def threads() -> list[int]:
        return [int(found["num_threads"]) for found in threadpoolctl.threadpool_info() if found["user_api"] == "blas"]

    before = threads()
    artefact = exported(SPEC, exports)
    session = find_backend("onnx-reference").open(
        artefact, device="cpu", precision="fp32", batch_size=1, threads=1, in_flight=1, options={}
    )
    assert set(threads()) == {1}
    assert session.evidence().threads == 1
    session.close()
    session.close()
    assert threads() == before


def test_without_its_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "threadpoolctl", None)
    state = find_backend("onnx-reference").availability("cpu")
    assert isinstance(state, Unavailable)
    assert "threadpoolctl" in state.reason
    assert "pip install" in state.remedy


@pytest.mark.parametrize("precision", ["tf32", "int4"])
def test_what_no_file_has_is_not_supported(precision: str):
    support = find_backend("onnx-reference").supports(precision, "cpu")
    assert not support.supported
    assert precision in support.reason
