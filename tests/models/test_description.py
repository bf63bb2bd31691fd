"""What weights say of themselves, and that it is read from where they say it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from vggbench.errors import RequestError, WeightsError
from vggbench.models.description import (
    CLASSES_KEY,
    PREPROCESSING_KEY,
    TRAINING_KEY,
    Description,
    describe,
    described_network,
)
from vggbench.models.preprocessing import IMAGENET, Preprocessing
from vggbench.models.spec import ModelSpec, make_spec
from vggbench.models.weights import initial_state
from vggbench.plan import selection

SHAPE = {"config": "8,M,16,M", "input_size": 32, "num_classes": 3, "classifier_width": 16}
KNOWN = Description(
    classes=("cat", "dog", "emu"), preprocessing=Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
)


@pytest.fixture
def written(tmp_path: Path):
    def write(metadata: dict[str, str]) -> ModelSpec:
        path = tmp_path / "own.safetensors"
        save_file(initial_state(make_spec(**SHAPE)), path, metadata=metadata)
        return make_spec(**SHAPE, weights=str(path))

    return write


def test_a_checkpoint_says_it_in_its_metadata(written):
    spec = written(KNOWN.metadata() | {"epoch": "3"})
    assert describe(spec) == KNOWN
    assert Preprocessing.of_spec(spec) == KNOWN.preprocessing


def test_a_file_without_metadata_says_nothing(written):
    spec = written({})
    assert describe(spec) == Description()
    assert Preprocessing.of_spec(spec) == Preprocessing(resize=32, crop=32, mean=IMAGENET.mean, std=IMAGENET.std)


def test_generated_weights_say_nothing():
    assert describe(make_spec("vgg11")) == Description()


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({CLASSES_KEY: "["}, "vggbench.classes is not JSON"),
        ({CLASSES_KEY: "[" * 100_000}, "vggbench.classes is not JSON"),
        ({CLASSES_KEY: '{"a": 1}'}, "is not a list of names"),
        ({CLASSES_KEY: "[1, 2, 3]"}, "is not a list of names"),
        ({CLASSES_KEY: '["a", "b"]'}, "names 2 classes and the network has 3; use --num-classes 2"),
        ({PREPROCESSING_KEY: "3"}, "preprocessing: 3 is not a table"),
        ({PREPROCESSING_KEY: '{"resize": 3}'}, "fields missing or unknown"),
    ],
)
def test_metadata_that_is_wrong_is_one_line(written, metadata, said: str):
    spec = written(metadata)
    with pytest.raises(WeightsError, match=said):
        describe(spec)


def test_a_damaged_file_is_one_line(written):
    spec = written({})
    Path(spec.weights).write_bytes(b"\xff" * 100)
    with pytest.raises(WeightsError, match="is not a whole safetensors file"):
        describe(spec)


def test_published_weights_have_it_from_torchvision():
    from vggbench.models.published import published_classes, published_files

    classes = published_classes("vgg11_bn")
    assert (len(classes), classes[0], classes[-1]) == (1000, "tench", "toilet tissue")
    assert {origin.preprocessing for origins in published_files().values() for origin in origins} == {IMAGENET}


TRAINED = {TRAINING_KEY: json.dumps({"spec": make_spec(**SHAPE).to_json(), "epochs": 3})}


def test_a_checkpoint_says_which_network_it_is_for(written):
    spec = written(TRAINED)
    assert make_spec(weights=spec.weights) == spec
    assert make_spec(weights=spec.weights, input_size=32, num_classes=3, outputs="probabilities").outputs != "logits"
    (found,) = selection({"weights": spec.weights}).specs()
    assert found == spec


def test_other_weights_say_nothing_of_a_network(written):
    assert described_network(written({}).weights) is None
    for weights in ("random", "imagenet", "nowhere.safetensors", "x" * 5000 + ".safetensors", "~nobody/x.safetensors"):
        assert described_network(weights) is None
    (found,) = selection({}).specs()
    assert found.variant == "vgg16_bn"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"num_classes": 7}, "is for a network with number of classes 3, not 7; leave that out, or name another"),
        ({"batch_norm": True}, "with batch norm False, not True"),
        ({"head": "flatten"}, "with head adaptive, not flatten"),
    ],
)
def test_what_a_checkpoint_is_not_for_is_refused(written, asked, said: str):
    with pytest.raises(RequestError, match=said):
        make_spec(weights=written(TRAINED).weights, **asked)


@pytest.mark.parametrize(
    ("training", "said"),
    [("[]", "vggbench.training has no network"), ("{", "is not JSON"), ('{"spec": {"head": 3}}', "model spec: fields")],
)
def test_a_network_that_cannot_be_read_is_one_line(written, training: str, said: str):
    spec = written({TRAINING_KEY: training})
    with pytest.raises(WeightsError, match=said):
        make_spec(weights=spec.weights)
