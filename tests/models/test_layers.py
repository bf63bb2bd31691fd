import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vggbench.models.configs import VARIANTS
from vggbench.models.layers import mac_layers, totals, walk
from vggbench.models.spec import make_spec
from vggbench.models.weights import empty_module

TORCHVISIONS = [f"vgg{depth}{suffix}" for depth in (11, 13, 16, 19) for suffix in ("", "_bn")]
TUTORIAL = "64,64,64,M,128,128,128,M,256,256,256,M"
ODD = {
    "adaptive at 70 pixels": make_spec(config="4,M,6@1,6,M,8", input_size=70, classifier_width=16),
    "flatten at 45 pixels": make_spec(config="M,4,4,M", head="flatten", input_size=45, classifier_width=16),
    "no pool": make_spec(config="4,5", input_size=9, classifier_width=16, batch_norm=True),
    "norm after a leading pool": make_spec(config="M,4,4", input_size=8, local_response_norm="literal"),
}
SPECS = {name: make_spec(name) for name in VARIANTS} | ODD


@pytest.mark.parametrize("name", VARIANTS)
def test_declared_facts_are_the_walks(name):
    total = totals(walk(make_spec(name)))
    assert (total.parameters, total.macs) == (VARIANTS[name].parameters, VARIANTS[name].macs)


@pytest.mark.parametrize("name", VARIANTS)
def test_declared_facts_are_the_modules(name):
    network = empty_module(make_spec(name))
    assert sum(parameter.numel() for parameter in network.parameters()) == VARIANTS[name].parameters
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.empty(1, 3, *[VARIANTS[name].input_size] * 2, device="meta"))
    assert counter.get_total_flops() == 2 * VARIANTS[name].macs


@pytest.mark.parametrize("name", TORCHVISIONS)
def test_declared_facts_are_those_that_torchvision_publishes(name):
    from torchvision.models import get_model_weights

    meta = get_model_weights(name).DEFAULT.meta
    assert VARIANTS[name].parameters == meta["num_params"]
    assert round(VARIANTS[name].macs / 1e9, 3) == meta["_ops"]


def test_the_tutorials_network_has_the_parameters_that_follow_from_its_channels():
    assert totals(walk(make_spec(config=TUTORIAL, num_classes=10))).parameters == 70_126_602


@pytest.mark.parametrize("name", SPECS)
def test_every_layer_is_the_modules_in_name_order_shape_and_size(name):
    spec = SPECS[name]
    network = empty_module(spec).eval()
    seen: list[tuple] = []
    for prefix, module in network.named_modules():
        held = {key: value for key, value in module.state_dict().items() if not key.endswith("tracked")}
        if not list(module.children()) and not isinstance(module, nn.ReLU | nn.Dropout | nn.Identity):
            stored = sum(value.numel() for value in held.values())
            trained = sum(value.numel() for value in module.parameters())
            module.register_forward_hook(
                lambda _, inputs, output, facts=(prefix, trained, 4 * stored): seen.append(
                    (*facts, 4 * inputs[0].numel(), tuple(output.shape))
                )
            )
    network(torch.empty(2, 3, spec.input_size, spec.input_size, device="meta"))
    assert seen == [
        (layer.name, layer.parameters, layer.weight_bytes, layer.input_bytes, layer.output_shape)
        for layer in walk(spec, batch_size=2)
    ]


def test_macs_and_activations_grow_with_the_batch_and_weights_do_not():
    one, many = totals(walk(SPECS["no pool"])), totals(walk(SPECS["no pool"], batch_size=8))
    assert (many.macs, many.activation_bytes) == (8 * one.macs, 8 * one.activation_bytes)
    assert (many.parameters, many.weight_bytes) == (one.parameters, one.weight_bytes)
    assert many.arithmetic_intensity > one.arithmetic_intensity


def test_bytes_scale_with_the_element():
    spec = SPECS["no pool"]
    whole, half = totals(walk(spec)), totals(walk(spec, bytes_per_element=2))
    assert (2 * half.weight_bytes, 2 * half.activation_bytes) == (whole.weight_bytes, whole.activation_bytes)
    assert half.arithmetic_intensity == 2 * whole.arithmetic_intensity


def test_arithmetic_intensity_is_flops_over_every_byte_moved_once():
    first = walk(make_spec("vgg16"))[0]
    moved = 4 * (3 * 224**2 + 64 * 224**2 + 64 * 27 + 64)
    assert first.arithmetic_intensity == pytest.approx(2 * 64 * 27 * 224**2 / moved)


def test_mac_layers_are_the_weight_layers_with_their_reductions():
    layers = mac_layers(make_spec("vgg16_c_bn"))
    assert len(layers) == VARIANTS["vgg16_c_bn"].weight_layers
    assert [layer.reduction_length for layer in layers[:2] + layers[-3:]] == [27, 64 * 9, 512 * 49, 4096, 4096]
    assert {layer.operation for layer in layers} == {"conv3x3", "conv1x1", "linear"}


def test_the_known_receptive_field_of_vgg16():
    fields = {layer.name: layer.receptive_field for layer in walk(make_spec("vgg16"))}
    assert (fields["features.0"], fields["features.2"], fields["features.30"]) == (3, 5, 212)


@pytest.mark.parametrize("config", ["2,2@1,2", "2,M,2,M,2@1,2", "M,2,2,M,M,2"])
def test_the_receptive_field_is_what_one_value_takes_its_gradient_from(config):
    spec = make_spec(config=config, input_size=128, classifier_width=1)
    image = torch.ones(1, 3, 128, 128, requires_grad=True)
    # All-ones filters, and average pools for maximum pools, let the gradient reach everything that is connected.
    values = image
    for module in empty_module(spec).features:
        if isinstance(module, nn.Conv2d):
            values = nn.functional.conv2d(values, torch.ones(module.weight.shape), padding=module.padding)
        elif isinstance(module, nn.MaxPool2d):
            values = nn.functional.avg_pool2d(values, 2)
    middle = values.shape[-1] // 2
    values[0, 0, middle, middle].backward()
    reached = image.grad[0, 0].any(dim=0).nonzero()
    features = [layer for layer in walk(spec) if layer.name.startswith("features")]
    assert features[-1].receptive_field == reached.max() - reached.min() + 1


@pytest.mark.parametrize(("size", "widest"), [(7, 1), (14, 2), (10, 3), (8, 2), (4, 2), (5, 2), (1, 1)])
def test_the_receptive_field_of_the_adaptive_pool_is_its_widest_bins(size, widest):
    layers = {layer.name: layer for layer in walk(make_spec(config="4@1", input_size=size, classifier_width=1))}
    assert layers["avgpool"].receptive_field == widest
    assert layers["classifier.0"].receptive_field == size
