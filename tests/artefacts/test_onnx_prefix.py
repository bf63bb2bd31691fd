"""Parts of ONNX files: where they can be cut, and that a part is the whole's own nodes, types and numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.artefacts.networks import narrow, run_onnx, sample
from tests.network_files import residual
from vggbench.artefacts.artefact import check_files
from vggbench.artefacts.onnx import onnx_artefact
from vggbench.artefacts.onnx_prefix import PREFIX_OUTPUT, chain_of_cuts, layer_values, part_between, prefix_artefact
from vggbench.artefacts.weights import weights_artefact
from vggbench.errors import RequestError
from vggbench.models.network_file import NetworkFile
from vggbench.models.vgg import Prefix
from vggbench.models.weights import load_module, output_shapes

SPEC = narrow(batch_norm=True)
CONVOLUTION, NORM = "features.4", "features.5"  # the second, and the batch norm that is folded into it


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


def expected(exports: Path, last: str) -> np.ndarray:
    import torch

    module = load_module(SPEC, weights_artefact(SPEC, exports).path)
    with torch.inference_mode():
        return Prefix(module, last).logits(torch.from_numpy(sample(SPEC))).numpy()


@pytest.mark.parametrize(
    ("layer", "last"),
    [("features.0", "features.1"), (CONVOLUTION, NORM), ("avgpool", "avgpool"), ("classifier.6", "classifier.6")],
)
def test_a_part_computes_what_the_module_does_up_to_there(exports: Path, tmp_path: Path, layer: str, last: str) -> None:
    whole = onnx_artefact(SPEC, exports)
    values = layer_values(onnx.load(whole.path, load_external_data=False).graph, "input")
    shape = output_shapes(SPEC)[last]
    part = prefix_artefact(whole, values[layer], shape, tmp_path / "part")
    check_files(part)
    onnx.checker.check_model(part.path, full_check=True)
    outputs = run_onnx(part.path, sample(SPEC))
    assert list(outputs) == [PREFIX_OUTPUT]
    wanted = expected(exports, last)
    assert outputs[PREFIX_OUTPUT].shape == wanted.shape == (3, np.prod(shape))
    np.testing.assert_allclose(outputs[PREFIX_OUTPUT], wanted, atol=1e-4 * np.abs(wanted).max())


def test_a_part_says_of_itself_what_backends_ask(exports: Path, tmp_path: Path) -> None:
    whole = onnx_artefact(SPEC, exports)
    part = prefix_artefact(whole, CONVOLUTION, output_shapes(SPEC)[NORM], tmp_path / "part")
    spec = NetworkFile.from_json(part.spec)
    assert (spec.input_name, spec.output_name, spec.input_size) == ("input", PREFIX_OUTPUT, 32)
    assert spec.num_classes == 16 * 16 * 16
    assert spec.batch_size == 0
    graph = onnx.load(part.path, load_external_data=False).graph
    assert [node.name for node in graph.node][:4] == ["features.0", "features.2", "features.3", CONVOLUTION]
    assert sorted(tensor.name for tensor in graph.initializer) == sorted(
        f"{layer}.{part}" for layer in ("features.0", CONVOLUTION) for part in ("weight", "bias")
    )


def test_a_part_keeps_the_types_of_the_whole_and_hands_over_fp32(tmp_path: Path) -> None:
    """A file in fp16 whose inputs and outputs are fp32."""
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 4, 4])
    last = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 48])
    weight = numpy_helper.from_array(np.ones((3, 3, 1, 1), dtype=np.float16), "weight")
    nodes = [
        helper.make_node("Cast", ["input"], ["short"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["short", "weight"], ["mixed"], "features.0"),
        helper.make_node("Flatten", ["mixed"], ["flat"], "flat"),
        helper.make_node("Cast", ["flat"], ["logits"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(nodes, "short", [image], [last], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    cuts = chain_of_cuts(tmp_path / "model.onnx", model, "input")
    assert [(cut.layer, cut.value) for cut in cuts] == [
        *(("short", "short"), ("features.0", "mixed"), ("flat", "flat"), ("logits", "logits"))
    ]
    part = part_between(model, "mixed", "input")
    assert [tensor.data_type for tensor in part.graph.initializer] == [TensorProto.FLOAT16]
    assert [node.op_type for node in part.graph.node] == ["Cast", "Conv"]


def test_a_part_from_the_middle_has_only_what_lies_between() -> None:
    model = residual()
    part = part_between(model, "scores", "pooled")
    assert [node.op_type for node in part.graph.node] == ["Flatten", "Gemm"]
    assert sorted(tensor.name for tensor in part.graph.initializer) == ["last.b", "last.w"]
    assert [value.name for value in part.graph.input] == ["pooled"]


def test_branches_with_products_side_by_side_are_no_chain(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"^residual.onnx is no chain, 3 products lie in branches before sum"):
        chain_of_cuts(tmp_path / "residual.onnx", residual(), "pixels")


def test_a_branch_without_a_product_of_its_own_can_be_cut_around(tmp_path: Path) -> None:
    """x * sigmoid(x) after a convolution, as in many networks."""
    model = residual()
    del model.graph.node[1:9]
    model.graph.node.insert(1, helper.make_node("Sigmoid", ["stem"], ["gate"]))
    model.graph.node.insert(2, helper.make_node("Mul", ["stem", "gate"], ["end"]))
    del model.graph.node[4].input[:]
    model.graph.node[4].input.extend(["pooled"])
    cuts = chain_of_cuts(tmp_path / "gated.onnx", model, "pixels")
    assert [cut.value for cut in cuts][:3] == ["stem", "end", "pooled"]


def test_whole_numbers_are_no_place_to_cut(tmp_path: Path) -> None:
    """What lies between a QuantizeLinear and its DequantizeLinear is int8."""
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3])
    last = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    stored = [
        numpy_helper.from_array(np.float32(0.1), "scale"),
        numpy_helper.from_array(np.int8(0), "zero"),
        numpy_helper.from_array(np.eye(3, dtype=np.float32), "weight"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["whole"]),
        helper.make_node("DequantizeLinear", ["whole", "scale", "zero"], ["again"]),
        helper.make_node("MatMul", ["again", "weight"], ["logits"]),
    ]
    graph = helper.make_graph(nodes, "quantised", [image], [last], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    assert [cut.value for cut in chain_of_cuts(tmp_path / "q.onnx", model, "input")] == ["again", "logits"]
