from dataclasses import replace

import pytest
import torch
from torch import nn

from vggbench.models.configs import VARIANTS
from vggbench.models.explanation import explain
from vggbench.models.layers import totals, walk
from vggbench.models.spec import make_spec
from vggbench.models.weights import build_module, empty_module


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", VARIANTS)
def test_the_steps_make_the_whole_network(name):
    spec = make_spec(name)
    steps, whole = explain(spec).steps, totals(walk(spec))
    assert ",".join(step.item for step in steps if step.item) == spec.configuration
    assert sum(step.parameters for step in steps) == whole.parameters
    assert sum(step.macs for step in steps) == whole.macs
    assert [step.receptive_field for step in steps] == sorted(step.receptive_field for step in steps)
    assert steps[-1].output_shape == (spec.num_classes,)


@pytest.mark.parametrize("shape", [{"variant": "vgg11_lrn"}, {"variant": "vgg13_bn"}, {"config": "8,8@1,M,8"}])
def test_the_operations_are_those_of_the_module(shape):
    spec = make_spec(**shape)
    network = empty_module(spec)
    kinds = {
        nn.BatchNorm2d: "batch_norm",
        nn.ReLU: "relu",
        nn.LocalResponseNorm: "local_response_norm",
        nn.MaxPool2d: "max_pool",
        nn.Linear: "linear",
        nn.Dropout: "dropout",
    }

    def kind(module):
        if isinstance(module, nn.Conv2d):
            return f"conv{module.kernel_size[0]}x{module.kernel_size[0]}"
        return next(name for cls, name in kinds.items() if isinstance(module, cls))

    modules = [kind(module) for part in (network.features, network.classifier) for module in part]
    told = [operation for step in explain(spec).steps for operation in step.operations]
    assert [operation for operation in told if operation != "average_pool"] == modules


def test_the_shapes_are_those_that_the_module_makes():
    spec = make_spec(config="8,16@1,M,4", input_size=32, num_classes=5, classifier_width=8)
    network, shapes = build_module(spec), []
    for module in (*network.features, network.avgpool, *network.classifier):
        if not isinstance(module, nn.ReLU | nn.Dropout):
            module.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    assert [step.output_shape for step in explain(spec).steps] == shapes


def test_imagined_stacks_cost_what_torchs_layers_cost_and_see_as_much_as_one_kernel():
    imagined = explain(make_spec("vgg16")).imagined
    assert [(stack.channels[0], len(stack.channels) - 1, stack.view) for stack in imagined] == [
        (width, count, view) for width in (64, 128, 256, 512) for count, view in ((2, 5), (3, 7))
    ]
    for stack in imagined:
        width, count = stack.channels[0], len(stack.channels) - 1
        assert stack.parameters == count * parameters(nn.Conv2d(width, width, 3, device="meta"))
        assert stack.single_parameters == parameters(nn.Conv2d(width, width, stack.view, device="meta"))
        assert stack.parameters < stack.single_parameters


def test_the_view_is_what_one_output_depends_on():
    for stack in explain(make_spec("vgg19")).stacks:
        layers = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1) for _ in stack.channels[1:]))
        image = torch.zeros(1, 1, 21, 21, requires_grad=True)
        layers(image)[0, 0, 10, 10].backward()
        assert int((image.grad != 0).any(dim=2).sum()) == stack.view


def test_the_stacks_are_the_networks_own():
    def stacks(config):
        return [(stack.block, stack.channels) for stack in explain(make_spec(config=config)).stacks]

    assert stacks("8,8,M,16,M,16,16,16") == [(1, (3, 8, 8)), (3, (16, 16, 16, 16))]
    assert stacks("8,8@1,8,M,M,8,4") == [(3, (8, 8, 4))]
    assert stacks("4@1,8,8") == [(1, (4, 8, 8))]
    assert stacks("8,M,8") == []
    assert [(stack.block, stack.channels) for stack in explain(make_spec("vgg19")).stacks][2:] == [
        (3, (128, 256, 256, 256, 256)),
        (4, (256, 512, 512, 512, 512)),
        (5, (512, 512, 512, 512, 512)),
    ]


def test_a_1x1_leaves_the_receptive_field_as_it_is():
    found = explain(make_spec("vgg16_c")).pointwise
    assert [layer.channels for layer in found] == [(256, 256), (512, 512), (512, 512)]
    for layer in found:
        assert layer.field_before == layer.field_after
        assert layer.parameters == parameters(nn.Conv2d(*layer.channels, 1, device="meta"))
        assert layer.single_3x3_parameters == parameters(nn.Conv2d(*layer.channels, 3, device="meta"))
    assert explain(make_spec("vgg16")).pointwise == ()
    (first,) = explain(make_spec(config="8@1,M")).pointwise
    assert (first.channels, first.field_before, first.field_after) == ((3, 8), 1, 1)


@pytest.mark.parametrize("shape", [{"variant": "vgg16_bn"}, {"variant": "vgg16_cifar"}, {"config": "8,M,8@1"}])
def test_the_shares_are_of_the_whole(shape):
    spec = make_spec(**shape)
    found, whole = explain(spec), totals(walk(spec))
    assert sum(share.parameters for share in found.shares) == whole.parameters
    assert sum(share.macs for share in found.shares) == whole.macs
    assert sum(share.share_of_parameters for share in found.shares) == pytest.approx(1)
    assert sum(share.share_of_macs for share in found.shares) == pytest.approx(1)
    assert found.shares[-1].part == "linear layers"


def test_the_largest_layer_is_named():
    largest = explain(make_spec("vgg16")).largest
    assert (largest.part, largest.parameters) == ("classifier.0", 102_764_544)
    assert largest.share_of_parameters == pytest.approx(102_764_544 / 138_357_544)


def test_weights_decide_nothing():
    spec = make_spec("vgg11")
    assert explain(replace(spec, weights="init", seed=3)) == explain(spec)
