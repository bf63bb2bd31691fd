import math

import pytest
from torch import nn

from tests.artefacts.networks import narrow
from vggbench.artefacts.graph import skeleton, trace
from vggbench.models.configs import VARIANTS
from vggbench.models.layers import mac_layers
from vggbench.models.spec import make_spec

QUICK = {"vgg16_c", "vgg11_lrn", "vgg16_cifar_bn"}


def node_macs(node):
    """Return the multiply-accumulates of one image, from the shapes that the exporter wrote."""
    output = list(node.outputs[0].shape[1:])
    weight = list(node.inputs[1].shape)
    return math.prod(output) * math.prod(weight[1:])


@pytest.mark.parametrize(
    "variant", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]
)
def test_every_variants_graph_has_its_layers_and_nothing_of_training(variant):
    spec = make_spec(variant)
    graph = trace(spec, skeleton(spec), opset=20).graph
    products = {node.name: node_macs(node) for node in graph if node.op_type in {"Conv", "Gemm"}}
    assert products == {layer.name: layer.macs for layer in mac_layers(spec)}
    rest = {node.op_type for node in graph} - {"Conv", "Gemm"}
    norm = {"LRN"} if spec.local_response_norm != "none" else set()
    assert rest == {"Relu", "MaxPool", "Reshape"} | norm


@pytest.mark.parametrize(("size", "operations"), [(224, []), (448, ["AveragePool"]), (128, ["MatMul", "MatMul"])])
def test_the_adaptive_pool_is_what_its_size_needs(size, operations):
    spec = narrow(input_size=size)
    graph = trace(spec, skeleton(spec), opset=20).graph
    assert [node.op_type for node in graph if (node.name or "").split("/")[0] == "avgpool"] == operations


def test_a_skeleton_takes_no_memory():
    network = skeleton(make_spec("vgg16_bn"))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert {parameter.untyped_storage().nbytes() for parameter in network.parameters()} == {4}
    assert not network.training
