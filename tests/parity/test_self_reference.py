"""The reference of a network that is given as a file: what it says, and that it is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.network_files import CLASSES, LENGTHS, MACS, SIZE, exact_scores, residual, weights, write, write_apart
from vggbench.artefacts.network_file import network_artefact, read_network_file
from vggbench.artefacts.onnx import onnx_artefact
from vggbench.artefacts.weights import weights_artefact
from vggbench.data.synthetic import images
from vggbench.errors import ArtefactError, CellError
from vggbench.models.layers import mac_layers
from vggbench.models.spec import POOLED_SIZE, ModelSpec, make_spec
from vggbench.parity.metrics import amplification, compare
from vggbench.parity.reference import reference_artefact
from vggbench.parity.self_reference import evaluate, evaluator, self_reference_artefact

IMAGES = images(8, SIZE, 1)
EXACT = 1e-12  # of float64's rounding, over a handful of layers


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


def evaluated(path: Path, inputs: np.ndarray = IMAGES) -> tuple[np.ndarray, list[Any]]:
    return evaluate(read_network_file(str(path), SIZE), path, inputs)


def reference_of(path: Path, exports: Path) -> dict[str, np.ndarray]:
    network = read_network_file(str(path))
    found = self_reference_artefact(network, exports, network_artefact(network, exports))
    with np.load(found.path) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("make", [write, write_apart])
def test_it_is_what_torch_computes_in_float64(tmp_path: Path, make: Any):
    logits, layers = evaluated(make(tmp_path / "net.onnx"))
    assert logits.dtype == np.float64
    assert compare(logits, exact_scores(IMAGES)).signal_error < EXACT
    assert [layer.length for layer in layers] == LENGTHS
    assert sum(layer.macs for layer in layers) == MACS


@pytest.mark.parametrize("batch", [1, 3, 8, 16])
def test_a_fixed_batch_changes_nothing(tmp_path: Path, batch: int):
    free, layers = evaluated(write(tmp_path / "free.onnx"))
    fixed, same_layers = evaluated(write(tmp_path / "fixed.onnx", residual(batch=batch)))
    assert compare(fixed, free).signal_error < EXACT
    assert [layer.macs for layer in same_layers] == [layer.macs for layer in layers]


def test_images_of_any_size(tmp_path: Path):
    logits, _layers = evaluated(write(tmp_path / "net.onnx", residual(side="s")))
    assert compare(logits, exact_scores(IMAGES)).signal_error < EXACT


def test_constants_in_the_graph_are_widened_and_work_on_them_alone_is_not_counted(tmp_path: Path):
    third = np.float32(1 / 3)

    def scaled(model: onnx.ModelProto) -> None:
        """Let the last layer's weights be a product of two stored matrices, and the output a third of itself."""
        (last,) = [node for node in model.graph.node if node.output[0] == "scores"]
        last.input[1], last.output[0] = "product", "whole"
        eye = numpy_helper.from_array(np.eye(16, dtype=np.float32), "eye")
        factor = helper.make_node("Constant", [], ["third"], value_float=float(third))
        cast = helper.make_node("Cast", ["whole"], ["cast"], to=TensorProto.FLOAT)
        times = helper.make_node("Mul", ["cast", "third"], ["scores"])
        model.graph.initializer.append(eye)
        model.graph.node.insert(0, helper.make_node("MatMul", ["last.w", "eye"], ["product"]))
        model.graph.node.extend([factor, cast, times])

    logits, layers = evaluated(write(tmp_path / "net.onnx", change=scaled))
    assert compare(logits, float(third) * exact_scores(IMAGES)).signal_error < EXACT
    assert [layer.length for layer in layers] == LENGTHS


def test_half_precision_weights_are_widened_and_not_the_arithmetic_narrowed(tmp_path: Path):
    def halved(model: onnx.ModelProto) -> None:
        last = next(tensor for tensor in model.graph.initializer if tensor.name == "last.w")
        last.CopyFrom(numpy_helper.from_array(weights()["last.w"].astype(np.float16), "half"))
        model.graph.node.insert(0, helper.make_node("Cast", ["half"], ["last.w"], to=TensorProto.FLOAT))

    path = write(tmp_path / "net.onnx", change=halved)
    assert read_network_file(str(path)).weights_type == "fp16+fp32"
    logits, _layers = evaluated(path)
    assert 1e-6 < compare(logits, exact_scores(IMAGES)).signal_error < 1e-3  # the weights' own rounding


def test_what_is_stored(tmp_path: Path, exports: Path):
    arrays = reference_of(write(tmp_path / "net.onnx"), exports)
    assert set(arrays) == {"inputs", "logits", "macs", "reduction_lengths", "amplifications"}
    assert (arrays["inputs"].shape, arrays["logits"].shape) == ((8, 3, SIZE, SIZE), (8, CLASSES))
    assert arrays["macs"].sum() == MACS
    assert arrays["reduction_lengths"].tolist() == LENGTHS
    assert arrays["amplifications"][-1] == pytest.approx(amplification(arrays["logits"]))


def test_a_branch_without_a_signal_does_not_widen_the_tolerance(tmp_path: Path, exports: Path):
    """Its convolution sees zeros whatever the image; without care its infinite amplification would pass anything."""

    def switched_off(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name in ("norm.scale", "norm.shift"):
                tensor.CopyFrom(numpy_helper.from_array(np.zeros(8, dtype=np.float32), tensor.name))

    arrays = reference_of(write(tmp_path / "off.onnx", change=switched_off), exports)
    assert np.isfinite(arrays["amplifications"]).all()
    assert arrays["amplifications"].max() <= 2 * amplification(arrays["logits"])


def test_a_file_that_overflows_is_a_failed_cell(tmp_path: Path, exports: Path):
    def infinite(model: onnx.ModelProto) -> None:
        last = next(tensor for tensor in model.graph.initializer if tensor.name == "last.b")
        last.CopyFrom(numpy_helper.from_array(np.full(CLASSES, np.inf, dtype=np.float32), "last.b"))

    with pytest.raises(CellError, match="40 of the reference's 40 outputs are not finite"):
        reference_of(write(tmp_path / "net.onnx", change=infinite), exports)


def test_a_file_that_cannot_be_evaluated_is_a_failed_cell(tmp_path: Path, exports: Path):
    """What onnx's checks cannot see: a reshape that only its values show to be impossible."""

    def impossible(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.array([0, 7], dtype=np.int64), "seven"))
        shape = helper.make_node("Identity", ["seven"], ["shape"])
        reshape = helper.make_node("Reshape", ["pooled", "shape"], ["flat"])
        place = next(number for number, node in enumerate(model.graph.node) if node.output[0] == "flat")
        model.graph.node[place].CopyFrom(shape)
        model.graph.node.insert(place + 1, reshape)

    with pytest.raises(CellError, match="cannot evaluate it: ") as caught:
        reference_of(write(tmp_path / "net.onnx", change=impossible), exports)
    assert "\n" not in str(caught.value)


def test_a_damaged_copy_is_not_evaluated(tmp_path: Path):
    network = read_network_file(str(write(tmp_path / "net.onnx")))
    artefact = network_artefact(network, tmp_path / "exports")
    artefact.path.write_bytes(artefact.path.read_bytes()[:-1] + b"?")
    with pytest.raises(ArtefactError, match="SHA-256"):
        self_reference_artefact(network, tmp_path / "exports", artefact)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        make_spec(config="8,8,M,16,16,M,32@1,M", input_size=32, num_classes=10, classifier_width=64),
        make_spec(config="8,M,16,M", batch_norm=True, input_size=32, num_classes=10, classifier_width=64),
        make_spec(config="8,M,16,M", local_response_norm="literal", input_size=32, num_classes=7, classifier_width=16),
        make_spec(config="8,M", input_size=40, num_classes=7, classifier_width=16),  # pooled by two small products
    ],
    ids=["plain", "batch norm", "response norm", "pool"],
)
def test_our_own_export_says_what_its_module_does(tmp_path: Path, exports: Path, spec: ModelSpec):
    """Two references that share no code agree to within the rounding of the file's own weights."""
    stored = weights_artefact(spec, exports)
    with np.load(reference_artefact(spec, exports, stored).path) as arrays:
        module = dict(arrays)
    itself = reference_of(onnx_artefact(spec, exports, stored).path, tmp_path)
    assert (itself["inputs"] == module["inputs"]).all()
    # Where the file has the module's own numbers only float64's rounding is between them; batch norms that are folded
    # into weights, the bins of a pool as a matrix, and LRN's alpha are numbers of the file's own, rounded to fp32 once.
    rounded = spec.batch_norm or spec.local_response_norm != "none" or spec.feature_size > POOLED_SIZE
    assert compare(itself["logits"], module["logits"]).signal_error < (1e-6 if rounded else 1e-10)
    layers = mac_layers(spec)
    products = [number for number, macs in enumerate(itself["macs"]) if macs in {layer.macs for layer in layers}]
    assert itself["macs"][products].tolist() == [layer.macs for layer in layers]
    assert itself["reduction_lengths"][products].tolist() == [layer.reduction_length for layer in layers]
    np.testing.assert_allclose(itself["amplifications"][products], module["amplifications"], rtol=0.1)


def _operator(*arguments: Any, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(*arguments, ["y"], **attributes)


POOL = {"kernel_shape": [3, 3], "strides": [2, 2]}
NORMED = ["x", "gain", "shift"]
OPERATORS = [
    _operator("MaxPool", ["x"], pads=[1, 1, 1, 1], **POOL),
    _operator("MaxPool", ["x"], ceil_mode=1, **POOL),
    _operator("MaxPool", ["x"], auto_pad="SAME_UPPER", **POOL),
    _operator("AveragePool", ["x"], pads=[1, 1, 1, 1], **POOL),
    _operator("AveragePool", ["x"], pads=[1, 1, 1, 1], count_include_pad=1, **POOL),
    _operator("AveragePool", ["x"], ceil_mode=1, **POOL),
    _operator("GlobalAveragePool", ["x"]),
    _operator("GlobalMaxPool", ["x"]),
    _operator("LRN", ["x"], size=5, alpha=0.1, beta=0.75, bias=2.0),
    _operator("LRN", ["x"], size=3, alpha=0.1),
    _operator("BatchNormalization", [*NORMED, "shift", "gain"]),
    _operator("InstanceNormalization", NORMED),
    _operator("GroupNormalization", NORMED, num_groups=3),
    _operator("LeakyRelu", ["x"], alpha=0.1),
    *(
        _operator(name, ["x"])
        for name in ("Relu", "Elu", "HardSigmoid", "HardSwish", "Sigmoid", "Gelu", "Mish", "Tanh")
    ),
    _operator("Softmax", ["x"], axis=1),
    _operator("Conv", ["x", "deep"], group=6, dilations=[2, 2], pads=[2, 2, 2, 2]),
    _operator("Conv", ["x", "deep"], group=6, strides=[2, 2], auto_pad="SAME_LOWER"),
    _operator("Resize", ["x", "", "scales"], mode="linear"),
    _operator("ReduceMean", ["x", "axes"]),
]


@pytest.mark.parametrize("node", OPERATORS, ids=lambda node: node.op_type)
def test_the_operators_of_image_networks_are_those_of_another_implementation(tmp_path: Path, node: onnx.NodeProto):
    """ONNX's reference implementation has errors of its own: LRN's is corrected here, and found by this."""
    import onnxruntime

    generator = np.random.default_rng(3)
    known = {
        "gain": np.linspace(0.5, 1.5, 6, dtype=np.float32),
        "shift": np.linspace(-0.5, 0.5, 6, dtype=np.float32),
        "deep": generator.standard_normal((6, 1, 3, 3), dtype=np.float32),
        "scales": np.array([1, 1, 2, 2], dtype=np.float32),
        "axes": np.array([2, 3]),
    }
    image = generator.standard_normal((2, 6, 9, 8), dtype=np.float32)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in known.items() if name in node.input],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": image})
    values = evaluator(model, ["y"])({"x": image})["y"]
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)  # fp32's, of the other
