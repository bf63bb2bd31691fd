import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vggbench.errors import WeightsError
from vggbench.models.configs import VARIANTS
from vggbench.models.initialization import NormalTensor
from vggbench.models.spec import make_spec
from vggbench.models.weights import build_module, empty_module, initial_state, lazy_state, load_module, state_for

DEEP = "8,8,M,16,16,M,32,32,32,32,M,64,64,64,64,M,64,64,64,64,M"  # vgg19, eight times narrower
SMALL = {"config": "4,M,6@1,M", "input_size": 16, "num_classes": 5, "classifier_width": 12}


def deep(**changes):
    return make_spec(config=DEEP, **{"input_size": 64, "num_classes": 20, "classifier_width": 256} | changes)


def small(**changes):
    return make_spec(**SMALL | changes)


def natural_images(count, size):
    """Images whose amplitudes fall with the frequency, as photographs' do, of zero mean and unit spread."""
    noise = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(3))
    across = torch.fft.fftfreq(size)
    frequency = torch.hypot(across[:, None], across[None, :])
    frequency[0, 0] = 1 / size
    images = torch.fft.ifft2(torch.fft.fft2(noise) / frequency).real
    return (images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)


def signal_norm(logits):
    count = len(logits)
    return ((logits - logits.mean(dim=0)).norm() / math.sqrt((count - 1) / count)).item()


def layer_outputs(network, images):
    """Return the logits, and what each layer hands on."""
    outputs = []
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
        if not list(module.children()):
            module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    with torch.inference_mode():
        return network(images), outputs


def assert_healthy(network, images):
    logits, outputs = layer_outputs(network, images)
    assert all(1e-3 < output.square().mean().sqrt() < 10 for output in outputs)  # fp16 is normal from 6e-5
    assert max(output.abs().max() for output in outputs) < 100  # and ends at 65504
    assert signal_norm(logits) > 0.03 * logits.norm()


@pytest.mark.parametrize("weights", ["random", "init"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_generated_state_fits_its_network_and_is_fp32(weights, batch_norm):
    spec = small(weights=weights, batch_norm=batch_norm)
    state, expected = initial_state(spec), empty_module(spec).state_dict()
    assert [(key, value.shape, value.dtype) for key, value in state.items()] == [
        (key, value.shape, value.dtype) for key, value in expected.items()
    ]


def test_the_same_seed_draws_the_same_and_another_another():
    first, again, other = initial_state(small()), initial_state(small()), initial_state(small(seed=1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first)


def test_no_two_tensors_are_drawn_alike():
    state = initial_state(deep(batch_norm=True))
    offsets = [value for key, value in state.items() if key.endswith(("bias", "running_mean")) and len(value) == 64]
    drawn = [tuple((value / value.abs().max()).tolist()) for value in offsets]
    assert len(set(drawn)) == len(drawn) > 10


@pytest.mark.parametrize("count", [1, 15, 16, 17, 64, 100, 127, 128, 4099])
@pytest.mark.parametrize("buffer", [32, 64, 1024])
def test_a_tensor_drawn_in_pieces_is_the_one_drawn_at_once(count, buffer):
    tensor = NormalTensor(torch.Size([count]), std=0.3, seed=7)
    pieces = [piece.clone() for piece in tensor.pieces(torch.empty(buffer))]
    assert torch.equal(torch.cat(pieces), tensor.whole())


def test_large_tensors_are_left_to_be_drawn():
    lazy, state = lazy_state(small()), initial_state(small())
    assert {key for key, entry in lazy.items() if isinstance(entry, NormalTensor)} == {
        key for key in state if key.endswith("weight")
    }
    assert all(torch.equal(entry, state[key]) for key, entry in lazy.items() if not key.endswith("weight"))


def test_the_global_generator_is_neither_used_nor_moved():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = initial_state(small())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(initial_state(small())["features.0.weight"], first["features.0.weight"])


def test_init_is_the_published_form():
    state = initial_state(deep(batch_norm=True, weights="init"))
    for key, value in state.items():
        if key.endswith(("bias", "running_mean", "num_batches_tracked")):
            assert not value.any()
        elif key.endswith("running_var") or value.dim() == 1:
            assert (value == 1).all()
        else:
            expected = 0.01 if key.startswith("classifier") else math.sqrt(2 / (value.shape[0] * 9))
            assert value.std().item() == pytest.approx(expected, rel=0.2)
            assert abs(value.mean().item()) < 5 * expected / math.sqrt(value.numel())


def test_random_has_the_weights_of_init_and_what_shows_besides():
    random, init = initial_state(deep()), initial_state(deep(weights="init"))
    for key, value in random.items():
        assert torch.equal(value, init[key]) is key.endswith("weight")


def test_a_layer_keeps_its_weights_when_another_changes():
    first, other = initial_state(small()), initial_state(small(num_classes=6))
    assert [key for key in first if not torch.equal(first[key], other[key])] == [
        "classifier.6.weight",
        "classifier.6.bias",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_loss_of_any_parameter_tensor_of_random_shows_against_the_signal(batch_norm):
    spec = deep(batch_norm=batch_norm)
    state, images = state_for(spec), natural_images(4, 64).double()
    with torch.inference_mode():
        right = build_module(spec, state).double()(images)
        for key, value in state.items():
            if value.dim() == 1:
                identity = torch.ones_like if key.endswith(("weight", "running_var")) else torch.zeros_like
                wrong = build_module(spec, state | {key: identity(value)}).double()(images)
                assert (wrong - right).norm().item() > 0.05 * signal_norm(right), key


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_least_element_of_a_deep_bias_shows_in_fp32(batch_norm):
    spec = deep(batch_norm=batch_norm)
    state, images = state_for(spec), natural_images(4, 64).double()
    with torch.inference_mode():
        right = build_module(spec, state).double()(images)
        for key, value in state.items():
            if key.startswith("features") and value.dim() == 1 and not key.endswith(("weight", "running_var")):
                damaged = value.clone()
                damaged[value.abs().argmin()] = 0
                wrong = build_module(spec, state | {key: damaged}).double()(images)
                assert (wrong - right).norm().item() > 1e-3 * signal_norm(right), key  # fp32 itself is at about 1e-5


def test_a_running_mean_that_is_off_by_one_percent_shows_in_fp32():
    spec = deep(batch_norm=True)
    state, images = state_for(spec), natural_images(4, 64).double()
    with torch.inference_mode():
        right = build_module(spec, state).double()(images)
        for key in [key for key in state if key.endswith("running_mean")]:
            wrong = build_module(spec, state | {key: state[key] * 1.01}).double()(images)
            assert (wrong - right).norm().item() > 1e-3 * signal_norm(right), key


@pytest.mark.parametrize("batch_norm", [False, True])
def test_signals_stay_healthy_in_a_deep_narrow_network(batch_norm):
    assert_healthy(build_module(deep(batch_norm=batch_norm)), natural_images(4, 64))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg11_lrn", "vgg19", "vgg19_bn", "vgg16_cifar", "vgg16_cifar_bn"])
def test_signals_stay_healthy_in_the_full_network(name):
    assert_healthy(build_module(make_spec(name)), natural_images(3, VARIANTS[name].input_size))


def test_a_module_is_built_on_the_states_own_memory_in_eval_mode():
    spec = small(batch_norm=True)
    state = state_for(spec)
    network = build_module(spec, state)
    assert not network.training
    held = network.state_dict()
    assert all(held[key].data_ptr() == value.data_ptr() for key, value in state.items())


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_weights_file_loads_to_the_network_that_was_saved(tmp_path, batch_norm):
    spec = small(batch_norm=batch_norm)
    save_file(state_for(spec), tmp_path / "model.safetensors")
    images = natural_images(2, 16)
    with torch.inference_mode():
        loaded = load_module(spec, tmp_path / "model.safetensors")
        assert torch.equal(loaded(images), build_module(spec)(images))
    assert not loaded.training
    assert all(parameter.data_ptr() % 64 == 0 for parameter in loaded.parameters())


def test_a_file_that_changed_after_the_request_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(initial_state(small()), path)
    spec = small(weights=str(path))
    torch.save(initial_state(small(seed=1)), path)
    with pytest.raises(WeightsError, match="has changed since"):
        state_for(spec)


def test_a_file_is_not_drawn_from_a_seed(tmp_path):
    torch.save(initial_state(small()), tmp_path / "w.pth")
    spec = small(weights=str(tmp_path / "w.pth"))
    with pytest.raises(WeightsError, match="not drawn from a seed"):
        initial_state(spec)
