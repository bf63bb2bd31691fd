"""What an int8 or fp8 file has in it, held against the fp32 file that it was made from."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.artefacts.networks import narrow
from tests.artefacts.quantized_files import CALIBRATION, KINDS, SPEC, form_of, quantized
from tests.data.writing import write_folders
from vggbench.artefacts import quantize
from vggbench.artefacts.calibration import choose_calibration, ranges_artefact, read_ranges
from vggbench.artefacts.onnx import onnx_artefact
from vggbench.artefacts.quantization import Calibration
from vggbench.artefacts.quantize import PROPERTY, missing_parts
from vggbench.artefacts.store import read_artefact
from vggbench.errors import ArtefactError, ExportError
from vggbench.models.layers import mac_layers

LARGEST = {"int8": 127, "fp8": 448}


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "layout"), KINDS)
def test_weights_are_the_parents_to_half_a_step_of_their_channel(exports: Path, precision: str, layout: str):
    made, parent = quantized(exports, precision, layout), onnx_artefact(SPEC, exports)
    stored, exact = tensors_of(made.path), tensors_of(parent.path)
    for layer in mac_layers(SPEC):
        name = f"{layer.name}.weight"
        numbers, scales = stored[f"{name}/quantized"].astype(np.float32), stored[f"{name}/scale"]
        rows = exact[name].reshape(len(scales), -1)
        np.testing.assert_allclose(scales, np.abs(rows).max(axis=1) / LARGEST[precision], rtol=1e-6)
        distance = np.abs(numbers.reshape(rows.shape) * scales[:, None] - rows)
        step = scales[:, None] if precision == "int8" else np.maximum(np.abs(rows) / 8, scales[:, None] / 512)
        assert (distance <= 0.5001 * step).all(), "E4M3 has 3 bits behind the first"
        assert not stored[f"{name}/zero"].astype(np.float32).any()


@pytest.mark.slow
def test_biases_are_whole_numbers_in_the_one_layout_and_the_parents_own_in_the_other(exports: Path):
    parent = tensors_of(onnx_artefact(SPEC, exports).path)
    whole, plain = (tensors_of(quantized(exports, "int8", layout).path) for layout in ("ort", "trt"))
    for layer in mac_layers(SPEC):
        name = f"{layer.name}.bias"
        assert whole[f"{name}/quantized"].dtype == np.int32
        scales = whole[f"{name}/scale"]
        assert (np.abs(whole[f"{name}/quantized"] * scales - parent[name]) <= 0.501 * scales).all()
        np.testing.assert_array_equal(plain[name], parent[name])


@pytest.mark.parametrize(("precision", "layout"), KINDS)
def test_scales_of_activations_follow_from_the_ranges(exports: Path, precision: str, layout: str):
    ranges = read_ranges(ranges_artefact(SPEC, exports, onnx_artefact(SPEC, exports), CALIBRATION)).ranges
    stored = tensors_of(quantized(exports, precision, layout).path)
    low, high = ranges["input"]
    if layout == "ort":
        assert stored["input/scale"] == pytest.approx((high - low) / 255, rel=1e-6)
        assert stored["input/zero"] == pytest.approx(-low / (high - low) * 255, abs=0.5)
        assert stored["input/zero"].dtype == np.uint8
        assert stored["features.2/scale"] == pytest.approx(ranges["features.2"][1] / 255, rel=1e-6)
    else:
        assert stored["input/scale"] == pytest.approx(max(-low, high) / LARGEST[precision], rel=1e-6)
        assert not stored["input/zero"].astype(np.float32).any()
        assert "features.2/scale" not in stored, "a pool's input is not rounded there"
        assert stored["features.3/scale"] == pytest.approx(ranges["features.2"][1] / LARGEST[precision], rel=1e-6)


def test_where_the_quantisers_stand(exports: Path):
    def takers(layout: str) -> Counter[str]:
        graph = onnx.load(quantized(exports, "int8", layout).path, load_external_data=False).graph
        rounded = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"} - {
            f"{layer.name}.{part}" for layer in mac_layers(SPEC) for part in ("weight", "bias")
        }
        return Counter(node.op_type for node in graph.node for name in node.input if name in rounded)

    products = {"Conv": 6, "Gemm": 3}
    assert takers("trt") == products
    others = takers("ort") - Counter(products)
    assert others["MaxPool"] == 5
    assert set(others) <= {"MaxPool", "Reshape", "MatMul", "Expand"}


@pytest.mark.parametrize(("precision", "layout"), KINDS)
def test_the_manifest_says_how_it_was_quantised(exports: Path, precision: str, layout: str):
    made = quantized(exports, precision, layout)
    manifest = json.loads((Path(made.folder) / "manifest.json").read_text())
    parent = onnx_artefact(SPEC, exports)
    ranges = read_ranges(ranges_artefact(SPEC, exports, parent, CALIBRATION))
    assert manifest["options"] == {
        "layout": layout,
        "calibration": "synthetic",
        "calibration_images": "8",
        "calibration_method": "min-max",
        "calibration_sha256": ranges.sha256[:12],
    }
    assert (manifest["precision"], manifest["parent"]) == (precision, parent.sha256)
    assert manifest["inputs"][0]["dtype"] == manifest["outputs"][0]["dtype"] == "float32"
    properties = {entry.key: entry.value for entry in onnx.load(made.path, load_external_data=False).metadata_props}
    assert json.loads(properties[PROPERTY]) == manifest["options"]
    assert made.bytes < form_of(precision, layout).bytes(SPEC) < parent.bytes


@pytest.mark.slow
def test_the_manifest_names_a_set_of_photographs_by_its_hash_and_not_by_its_place(exports: Path, tmp_path: Path):
    shades = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32, 3)).astype(np.uint8)
    write_folders(tmp_path / "photographs", {"cat": list(shades[0]), "dog": list(shades[1])})
    chosen = choose_calibration(str(tmp_path / "photographs"), "min-max")
    made = quantized(exports, "int8", "trt", calibration=chosen)
    text = (Path(made.folder) / "manifest.json").read_text()
    options = json.loads(text)["options"]
    assert (options["calibration"], options["calibration_images"]) == ("images", "6")
    assert options["calibration_sha256"] == chosen.sha256
    assert "photographs" not in text


@pytest.mark.slow
def test_the_same_request_is_found_again_and_another_is_another(exports: Path, monkeypatch: pytest.MonkeyPatch):
    made = quantized(exports, "int8", "ort")
    assert missing_parts(SPEC, exports, form_of("int8", "ort")) == {}
    for other in (Calibration(images=9), Calibration(images=8, method="entropy")):
        form = form_of("int8", "ort", other)
        assert missing_parts(SPEC, exports, form) == {form: form.bytes(SPEC)}
    assert quantized(exports, "int8", "trt").folder != made.folder != quantized(exports, "fp8", "trt").folder
    more = quantized(exports, "int8", "ort", calibration=Calibration(images=16))
    assert (more.folder, more.sha256) != (made.folder, made.sha256)
    monkeypatch.setattr(quantize, "_write", None)  # would fail if it were written again
    assert quantized(exports, "int8", "ort") == made == read_artefact(Path(made.folder))


@pytest.mark.slow
def test_a_damaged_parent_is_not_quantised(exports: Path, tmp_path: Path):
    shutil.copytree(exports, tmp_path, dirs_exist_ok=True)
    parent = onnx_artefact(SPEC, tmp_path)
    shutil.rmtree(quantized(tmp_path, "int8", "ort").folder)  # the ranges stay, and the parent is checked all the same
    data = Path(parent.folder) / "model.onnx.data"
    content = bytearray(data.read_bytes())
    content[5000] ^= 1
    data.write_bytes(content)
    with pytest.raises(ArtefactError, match="SHA-256"):
        quantized(tmp_path, "int8", "ort")
    assert not list(tmp_path.glob("*/.unfinished*"))


@pytest.mark.parametrize(
    "spec",
    [narrow(local_response_norm="literal"), narrow(input_size=48 * 4), narrow(head="flatten", outputs="probabilities")],
    ids=["response norm", "pooled by products", "flatten"],
)
@pytest.mark.slow
def test_every_shape_of_network(tmp_path: Path, spec: Any):
    for precision, layout in KINDS:
        assert quantized(tmp_path, precision, layout, spec).precision == precision


def _without_scales(graph: onnx.GraphProto) -> None:
    """Give the first convolution's weights one scale for all channels."""
    for tensor in graph.initializer:
        if tensor.name in ("features.0.weight/scale", "features.0.weight/zero"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[0], tensor.name))


def _unrounded(graph: onnx.GraphProto) -> None:
    next(node for node in graph.node if node.op_type == "Conv").input[0] = "input"


def _negative(graph: onnx.GraphProto) -> None:
    tensor = next(tensor for tensor in graph.initializer if tensor.name == "features.0.weight/scale")
    tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))


def _shifted(graph: onnx.GraphProto) -> None:
    tensor = next(tensor for tensor in graph.initializer if tensor.name == "input/zero")
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(7, dtype=np.int8), tensor.name))


def _rounded_for_nothing(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("Identity", ["input/dequantized"], ["more"], "another"))


def _renamed(graph: onnx.GraphProto) -> None:
    next(node for node in graph.node if node.op_type == "Conv").name = "first"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_without_scales, "has 1 scales for the 8 output channels of features.0"),
        (_unrounded, "does not round the input of features.0"),
        (_negative, "no symmetric grid has"),
        (_shifted, "rounds the input of features.0 with scale"),
        (_rounded_for_nothing, "rounds the input of another, which is Identity"),
        (_renamed, "has the convolutions and products"),
    ],
)
def test_a_file_that_is_not_what_was_asked_is_refused(exports: Path, change: Any, complaint: str, monkeypatch):
    before = list(exports.glob("*/*"))
    insert = quantize.insert_quantizers

    def broken(graph: onnx.GraphProto, *rest: Any) -> None:
        insert(graph, *rest)
        monkeypatch.setattr(quantize._Weights, "replace_initializers", lambda self: (replace(self), change(graph)))

    replace = quantize._Weights.replace_initializers
    monkeypatch.setattr(quantize, "insert_quantizers", broken)
    with pytest.raises(ExportError) as caught:
        quantized(exports, "int8", "trt", calibration=Calibration(images=8, method="percentile"))
    assert complaint in str(caught.value)
    made = {path.name[:4] for path in exports.glob("*/*") if path not in before}
    assert made <= {"fp32"}, "its ranges alone are kept"
