import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import many
from vggbench.errors import RequestError, WeightsError
from vggbench.models.configs import VARIANTS
from vggbench.models.layers import totals, walk
from vggbench.models.spec import MAX_CLASSES, MAX_INPUT_SIZE, ModelSpec, make_spec

CUSTOM = "64,64,64,M,128,128,128,M,256,256,256,M"


@pytest.fixture
def weights_file(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"some weights")
    return path


def test_defaults_are_the_variants_own():
    spec = make_spec("vgg16_cifar")
    assert (spec.input_size, spec.num_classes, spec.head, spec.classifier_inputs) == (32, 10, "flatten", 512 * 4 * 4)
    assert (spec.classifier_width, spec.outputs, spec.weights, spec.seed) == (4096, "logits", "random", 0)


def test_what_is_asked_for_overrides_them():
    spec = make_spec("D", head="flatten", input_size=64, num_classes=3, classifier_width=8, outputs="probabilities")
    assert (spec.variant, spec.head, spec.input_size, spec.num_classes) == ("vgg16", "flatten", 64, 3)
    assert (spec.classifier_width, spec.outputs, spec.classifier_inputs) == (8, "probabilities", 512 * 2 * 2)


def test_a_custom_networks_first_linear_layer_follows_from_its_last_channels():
    spec = make_spec(config=CUSTOM, num_classes=10)
    assert (spec.variant, spec.feature_channels, spec.classifier_inputs) == ("custom", 256, 256 * 49)


def test_batch_norm_chooses_between_a_variant_and_its_other_form():
    assert make_spec("vgg16", batch_norm=True) == make_spec("vgg16_bn")
    assert make_spec("vgg16_bn", batch_norm=False) == make_spec("vgg16")
    assert make_spec(config="8,M", batch_norm=True).variant == "custom_bn"


def test_the_divided_reading_is_an_option_of_the_network_that_has_the_norm():
    assert make_spec("A-LRN").local_response_norm == "literal"
    assert make_spec("A-LRN", local_response_norm="divided").local_response_norm == "divided"
    assert make_spec(config="8,M", local_response_norm="literal").local_response_norm == "literal"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({}, "either a variant or a configuration"),
        ({"variant": "vgg16", "config": "8,M"}, "not both"),
        ({"variant": "vgg61"}, "vgg16"),
        ({"variant": "vgg16", "num_classes": 0}, "number of classes is 0"),
        ({"variant": "vgg16", "num_classes": MAX_CLASSES + 1}, "number of classes"),
        ({"variant": "vgg16", "input_size": 0}, "input size is 0"),
        ({"variant": "vgg16", "input_size": MAX_INPUT_SIZE + 1}, "input size is"),
        ({"variant": "vgg16", "classifier_width": -1}, "classifier width is -1"),
        ({"variant": "vgg16", "seed": -1}, "seed is -1"),
        ({"variant": "vgg16", "head": ""}, "head is ''"),
        ({"variant": "vgg16", "outputs": "scores"}, "outputs is 'scores'; it can be logits or probabilities"),
        ({"variant": "vgg16", "local_response_norm": "literal"}, "use vgg11_lrn"),
        ({"variant": "vgg11_lrn", "local_response_norm": "none"}, "'none'"),
        ({"variant": "vgg11_lrn", "local_response_norm": "half"}, "it can be none or literal or divided"),
        ({"variant": "vgg11_lrn", "batch_norm": True}, "no batch-norm form"),
        ({"variant": "vgg16", "head": "flatten", "input_size": 4096}, "16.0 times the most"),
        ({"config": "64,Q"}, "item 2 is 'Q'"),
    ],
)
def test_a_wrong_request_is_refused_with_its_value(request_, said):
    with pytest.raises(RequestError, match=said) as caught:
        make_spec(**request_)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("size", "pool"), [(1, "pool 1 of 5"), (2, "pool 2 of 5"), (16, "pool 5 of 5"), (31, "pool 5 of 5")]
)
def test_a_size_that_is_too_small_names_the_pool_and_the_smallest_that_works(size, pool):
    with pytest.raises(RequestError, match=f"{pool} .* smallest size that works is 32"):
        make_spec("vgg16", input_size=size)


@given(pools=st.integers(0, 8), size=st.integers(1, 600))
def test_exactly_the_sizes_that_halving_survives_are_taken(pools, size):
    config = ",".join(["8", *["M"] * pools])
    side, survives = size, True
    for _ in range(pools):
        survives &= side >= 2
        side //= 2
    if survives:
        assert make_spec(config=config, input_size=size).feature_size == side
    else:
        with pytest.raises(RequestError, match=f"smallest size that works is {2**pools}$"):
            make_spec(config=config, input_size=size)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_spec_survives_json(name):
    spec = make_spec(name, seed=2**63 - 1)
    assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": 1}, "colour"),
        ({"seed": "0"}, "seed is '0', not of type int"),
        ({"batch_norm": 1}, "batch_norm is 1, not of type bool"),
        ({"num_classes": True}, "num_classes is True"),
        ({"num_classes": 0}, "number of classes is 0"),
        ({"input_size": 1}, "too small"),
        ({"configuration": "1,Z"}, "'Z'"),
    ],
)
def test_json_that_is_no_spec_is_refused(change, said):
    with pytest.raises(RequestError, match=said):
        ModelSpec.from_json(make_spec("vgg11").to_json() | change)


def test_json_without_a_field_is_refused():
    data = make_spec("vgg11").to_json()
    del data["head"]
    with pytest.raises(RequestError, match="head"):
        ModelSpec.from_json(data)


def test_every_field_is_in_the_digest():
    spec = make_spec("vgg11_lrn")
    changed = [
        replace(spec, variant="custom"),
        replace(spec, configuration="64,M"),
        replace(spec, batch_norm=True),
        replace(spec, local_response_norm="divided"),
        replace(spec, head="flatten"),
        replace(spec, input_size=64),
        replace(spec, num_classes=2),
        replace(spec, classifier_width=2),
        replace(spec, outputs="probabilities"),
        replace(spec, weights="init"),
        replace(spec, seed=1),
        replace(spec, weights="/a.pth", weights_sha256="ab"),
    ]
    digests = {other.digest() for other in [spec, *changed]}
    assert len(digests) == len(changed) + 1
    assert all(len(digest) == 16 for digest in digests)


def test_a_files_content_is_in_the_digest_but_not_its_place_nor_a_seed(weights_file, tmp_path):
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(weights_file.read_bytes())
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"other weights")
    digest = make_spec("vgg11", weights=str(weights_file)).digest()
    assert make_spec("vgg11", weights=str(moved), seed=5).digest() == digest
    assert make_spec("vgg11", weights=str(other)).digest() != digest


def test_a_weights_file_becomes_an_absolute_path_and_a_hash(weights_file, monkeypatch):
    monkeypatch.chdir(weights_file.parent)
    spec = make_spec("vgg11", weights="w.safetensors")
    assert spec.weights == str(weights_file.resolve())
    assert len(spec.weights_sha256) == 64
    assert not spec.has_generated_weights


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("absent.pth", "does not exist"),
        ("rnadom", "'random', 'init', 'imagenet' or a file"),
        ("~nobody-of-that-name/x.pth", "cannot be looked up"),
        ("x" * 5000 + ".pth", "cannot be looked up"),
    ],
)
def test_weights_that_are_neither_a_word_nor_a_file_are_refused(weights, said):
    with pytest.raises(WeightsError, match=said):
        make_spec("vgg11", weights=weights)


def test_a_weights_file_that_cannot_be_read_is_said_so(weights_file, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(WeightsError, match="cannot be read: Permission denied"):
        make_spec("vgg11", weights=str(weights_file))


SIZES = st.none() | st.integers(-2, 300) | st.integers()


@many
@given(
    config=st.lists(st.sampled_from(["8", "M", "16@1", "16384", " 4 ", "m", "8@", "@1", ""]), max_size=12).map(",".join)
    | st.text(max_size=30),
    shape=st.fixed_dictionaries(
        {},
        optional={
            "batch_norm": st.none() | st.booleans(),
            "local_response_norm": st.none() | st.sampled_from(["none", "literal", "divided"]) | st.text(max_size=3),
            "head": st.none() | st.sampled_from(["adaptive", "flatten"]) | st.text(max_size=3),
            "input_size": SIZES,
            "num_classes": SIZES,
            "classifier_width": st.integers(-2, 5000) | st.integers(),
            "outputs": st.sampled_from(["logits", "probabilities"]) | st.text(max_size=3),
            "weights": st.sampled_from(["random", "init"]) | st.text(max_size=9) | st.just("~nobody/w.pth"),
            "seed": st.integers(-1, 9) | st.integers(),
        },
    ),
)
def test_any_network_of_layers_is_a_spec_or_an_error_in_one_line(config, shape):
    try:
        spec = make_spec(config=config, **shape)
        totals(walk(spec))
    except RequestError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - either is right
    else:
        assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@many
@given(st.text(max_size=12) | st.sampled_from([" VGG16 ", "d", "a-lrn"]))
def test_any_name_is_a_variant_or_an_error_in_one_line(name):
    try:
        make_spec(name)
    except RequestError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - either is right
