"""What a training begins with: drawn weights, or a file's with a new last layer."""

import pytest
import torch
from safetensors.torch import save_file

from vggbench.errors import UnknownVariantError, WeightsError
from vggbench.models.description import Description
from vggbench.models.spec import make_spec
from vggbench.models.weights import initial_state
from vggbench.train import starting_weights
from vggbench.train.starting_weights import LAST_LAYER, Start, find_start, starting_network

CLASSES = ("cat", "dog", "bird")


def spec(num_classes=3, seed=0, **changes):
    shape = {"config": "4,M,8,M", "batch_norm": True, "head": "flatten", "input_size": 8, "classifier_width": 6}
    return make_spec(**(shape | changes), num_classes=num_classes, weights="init", seed=seed)


def written(path, num_classes, classes=()):
    state = initial_state(spec(num_classes, seed=7))
    metadata = Description(classes=classes).metadata()
    save_file(state, path, metadata) if path.suffix == ".safetensors" else torch.save(state, path)
    return state


def kept_and_new(network, state):
    """Return which of a network's tensors are the file's."""
    return {key: key in state and torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items()}


def test_random_is_the_published_initialisation():
    network = starting_network(spec(), find_start(spec(), "random"), CLASSES)
    assert all(kept_and_new(network, initial_state(spec())).values())
    assert Start().text == "random"


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("num_classes", [3, 5])
def test_of_a_file_all_but_the_last_layer_is_taken(tmp_path, name, num_classes):
    state = written(tmp_path / name, num_classes)
    start = find_start(spec(), str(tmp_path / name))
    network = starting_network(spec(), start, CLASSES)
    taken = kept_and_new(network, state)
    anew = {f"{LAST_LAYER}weight"} if num_classes == 3 else {f"{LAST_LAYER}weight", f"{LAST_LAYER}bias"}
    assert {key for key, kept in taken.items() if not kept} == anew  # three biases of zero are the same in both
    own = initial_state(spec())
    assert torch.equal(network.state_dict()[f"{LAST_LAYER}weight"], own[f"{LAST_LAYER}weight"])
    assert start.text == f"{name}, sha256 {start.sha256}"


def test_of_a_file_that_has_these_very_classes_all_is_taken(tmp_path):
    path = tmp_path / "w.safetensors"
    state = written(path, 3, CLASSES)
    assert all(kept_and_new(starting_network(spec(), find_start(spec(), str(path)), CLASSES), state).values())
    others = kept_and_new(starting_network(spec(), find_start(spec(), str(path)), ("a", "b", "c")), state)
    assert not others[f"{LAST_LAYER}weight"]


def test_a_file_of_another_network_is_refused(tmp_path):
    written(tmp_path / "w.pth", 3)
    other = spec(config="4,M,9,M")
    with pytest.raises(
        WeightsError, match=r"weights file 'w.pth' does not fit custom_bn: features.4.weight is 8x4x3x3"
    ):
        starting_network(other, find_start(other, str(tmp_path / "w.pth")), CLASSES)


def test_values_that_are_no_numbers_are_refused(tmp_path):
    state = written(tmp_path / "w.pth", 3)
    state["features.0.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="are not finite in fp32"):
        starting_network(spec(), find_start(spec(), str(tmp_path / "w.pth")), CLASSES)


def test_of_imagenets_weights_the_last_layer_is_made_anew(tmp_path, monkeypatch):
    """With a small file in the published one's place; finding and checking that has tests of its own."""
    monkeypatch.setattr(starting_weights, "local_file", lambda origin: (tmp_path / f"{origin.name}.pth", "0" * 64))
    start = find_start(make_spec("vgg11_bn", num_classes=3, weights="init"), "imagenet")
    assert start.text == "vgg11_bn-6002323d.pth, sha256 " + "0" * 64
    state = written(start.path, 5)
    taken = kept_and_new(starting_network(spec(), start, CLASSES), state)
    assert [key for key, kept in taken.items() if not kept] == [f"{LAST_LAYER}weight", f"{LAST_LAYER}bias"]


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        find_start(spec(), str(tmp_path / "none.pth"))
    with pytest.raises(WeightsError, match="custom_bn has no published file; vgg11, "):
        find_start(spec(), "imagenet")
    with pytest.raises(UnknownVariantError):
        make_spec("vgg12")
