import math

import numpy as np
import pytest
import torch

from vggbench.artefacts.artefact import check_files
from vggbench.artefacts.weights import weights_artefact
from vggbench.data.synthetic import images
from vggbench.errors import CellError
from vggbench.models.layers import mac_layers
from vggbench.models.spec import make_spec
from vggbench.models.weights import initial_state, load_module
from vggbench.parity.metrics import RunningAmplification, amplification
from vggbench.parity.reference import IMAGES, reference_artefact, reference_logits


def narrow(**changes):
    shape = {"config": "8,M,16,M", "input_size": 16, "num_classes": 5, "classifier_width": 32}
    return make_spec(**shape | changes)


def arrays_of(artefact):
    with np.load(artefact.path, allow_pickle=False) as arrays:
        return arrays["inputs"], arrays["logits"]


def test_it_is_the_network_in_float64_on_different_images(tmp_path):
    spec = narrow(batch_norm=True, outputs="probabilities")
    weights = weights_artefact(spec, tmp_path)
    artefact = reference_artefact(spec, tmp_path, weights)
    check_files(artefact)
    inputs, logits = arrays_of(artefact)
    assert (inputs.shape, inputs.dtype) == ((IMAGES, 3, 16, 16), np.float32)
    assert (logits.shape, logits.dtype) == ((IMAGES, 5), np.float64)
    network = load_module(spec, weights.path).double()
    with torch.inference_mode():
        together = network.logits(torch.from_numpy(inputs).double()).numpy()
    np.testing.assert_allclose(logits, together, rtol=0, atol=1e-12 * np.abs(together).max())
    assert len(np.unique(logits, axis=0)) == IMAGES


def test_single_precision_comes_close_and_is_not_the_same(tmp_path):
    spec = narrow()
    weights = weights_artefact(spec, tmp_path)
    inputs, logits = arrays_of(reference_artefact(spec, tmp_path, weights))
    with torch.inference_mode():
        single = load_module(spec, weights.path)(torch.from_numpy(inputs)).numpy()
    error = np.abs(single - logits).max() / np.abs(logits).max()
    assert 0 < error < 1e-5


def test_it_is_computed_once(tmp_path, monkeypatch):
    spec = narrow()
    weights = weights_artefact(spec, tmp_path)
    first = reference_artefact(spec, tmp_path, weights)
    monkeypatch.setattr("vggbench.models.weights.load_module", lambda *arguments: pytest.fail("computed again"))
    assert reference_artefact(spec, tmp_path, weights) == first


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"input_size": 20}, {"local_response_norm": "literal"}],
    ids=lambda change: next(iter(change)),
)
def test_another_function_has_another_reference(tmp_path, change):
    paths = set()
    for spec in (narrow(), narrow(**change)):
        paths.add(reference_artefact(spec, tmp_path, weights_artefact(spec, tmp_path)).path)
    assert len(paths) == 2


def test_weights_that_overflow_are_named(tmp_path, monkeypatch):
    spec = narrow()
    state = initial_state(spec)
    state["classifier.6.bias"][2] = float("nan")
    monkeypatch.setattr("vggbench.models.weights.lazy_state", lambda spec: state)
    with pytest.raises(CellError, match="custom: 8 of the reference's 40 logits are not finite; check the weights"):
        reference_artefact(spec, tmp_path, weights_artefact(spec, tmp_path))


def test_images_are_computed_one_at_a_time(tmp_path, monkeypatch):
    spec = narrow()
    network = load_module(spec, weights_artefact(spec, tmp_path).path)
    seen = []
    network.features.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[0]))
    reference_logits(network, np.zeros((3, 3, 16, 16), np.float32))
    assert seen == [1, 1, 1]


def test_each_layers_amplification_is_that_of_its_outputs_over_all_images(tmp_path):
    spec = make_spec(config="8,M,16,16,M", batch_norm=True, classifier_width=32, num_classes=10, input_size=16)
    weights = weights_artefact(spec, tmp_path)
    inputs = images(IMAGES, 16, 3)
    network = load_module(spec, weights.path)
    logits, amplifications = reference_logits(network, inputs)
    outputs = []
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    for layer in layers:
        layer.register_forward_hook(
            lambda _layer, _inputs, output: outputs.append(output.numpy().reshape(IMAGES, -1).copy())
        )
    with torch.inference_mode():
        network.logits(torch.from_numpy(inputs).double())
    assert len(amplifications) == len(mac_layers(spec)) == len(outputs)
    assert amplifications == pytest.approx([amplification(output) for output in outputs], rel=1e-9)
    assert amplifications[-1] == pytest.approx(amplification(logits), rel=1e-9)


def test_a_layer_without_a_signal_or_without_any_output_is_told_apart():
    constant, silent = RunningAmplification(), RunningAmplification()
    for _ in range(4):
        constant.add(np.ones((3, 2)))
        silent.add(np.zeros((3, 2)))
    assert constant.value == math.inf
    assert silent.value == 1.0
