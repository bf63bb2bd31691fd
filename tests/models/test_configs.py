import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import many
from vggbench.errors import RequestError, UnknownVariantError
from vggbench.models.configs import (
    ALIASES,
    MAX_CHANNELS,
    MAX_LAYERS,
    VARIANTS,
    Conv,
    MaxPool,
    find_variant,
    format_configuration,
    parse_configuration,
)

CONVS = st.builds(Conv, st.integers(1, MAX_CHANNELS), st.sampled_from([1, 3]))
ITEM = re.compile(r"[Mm]|0*(1638[0-4]|163[0-7]\d|16[0-2]\d\d|1[0-5]\d{3}|[1-9]\d{0,3})(@0*[13])?")
STAGES = st.lists(CONVS | st.just(MaxPool()), min_size=1, max_size=40).filter(
    lambda stages: any(isinstance(stage, Conv) for stage in stages)
)


@many
@given(STAGES)
def test_a_configuration_survives_writing_and_reading(stages):
    assert parse_configuration(format_configuration(stages)) == tuple(stages)


@many
@given(st.text(alphabet="0123456789@Mm, x-", max_size=9) | st.text(max_size=30))
def test_text_is_read_exactly_if_every_item_is_right_and_else_refused_in_one_line(text):
    items = [item.strip() for item in text.split(",")]
    right = all(ITEM.fullmatch(item) for item in items) and any(item not in "Mm" for item in items)
    if right:
        canonical = format_configuration(parse_configuration(text))
        assert format_configuration(parse_configuration(canonical)) == canonical
    else:
        with pytest.raises(RequestError, match=r"^configuration[^\n]*$"):
            parse_configuration(text)


def test_blanks_a_small_m_and_an_explicit_kernel_are_read():
    assert format_configuration(parse_configuration(" 64 , m,128@3, 256@1")) == "64,M,128,256@1"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("64,X,M", "item 2 is 'X'"),
        ("64,,M", "item 2 is ''"),
        ("", "item 1 is ''"),
        ("64,-5", "item 2 is '-5'"),
        ("0,M", "item 1 is '0'"),
        (f"64,{MAX_CHANNELS + 1}", f"channels go from 1 to {MAX_CHANNELS}"),
        ("64,128@5", "a kernel is 1 or 3"),
        ("64,128@0", "a kernel is 1 or 3"),
        ("64,\u0663", "item 2 is"),  # a digit, but not one of ours
        ("M,M", "no convolution"),
        (",".join(["64"] * (MAX_LAYERS + 1)), f"{MAX_LAYERS + 1} items"),
    ],
)
def test_a_wrong_item_is_named(text, named):
    with pytest.raises(RequestError, match=named):
        parse_configuration(text)


def test_the_third_convolution_of_the_last_three_blocks_of_c_is_1x1_without_padding():
    stages = parse_configuration(VARIANTS["vgg16_c"].configuration)
    ones = [index for index, stage in enumerate(stages) if isinstance(stage, Conv) and stage.kernel == 1]
    assert [stages[index + 1] for index in ones] == [MaxPool()] * 3
    assert [(stages[index].channels, stages[index].padding) for index in ones] == [(256, 0), (512, 0), (512, 0)]


def test_configurations_of_the_table_are_canonical():
    for variant in VARIANTS.values():
        assert format_configuration(parse_configuration(variant.configuration)) == variant.configuration


def test_weight_layers_are_those_of_the_configuration_and_the_classifier():
    for variant in VARIANTS.values():
        convs = [stage for stage in parse_configuration(variant.configuration) if isinstance(stage, Conv)]
        assert variant.weight_layers == len(convs) + 3


@pytest.mark.parametrize(
    ("letter", "name"),
    [("A", "vgg11"), ("a-lrn", "vgg11_lrn"), ("B", "vgg13"), ("c", "vgg16_c"), ("D", "vgg16"), (" E ", "vgg19")],
)
def test_the_papers_letters_are_names(letter, name):
    assert find_variant(letter) is VARIANTS[name]


def test_each_letter_is_its_variants_column_in_the_paper():
    assert {letter: VARIANTS[name].paper_name for letter, name in ALIASES.items()} == {a: a for a in ALIASES}


def test_names_are_found_in_any_case():
    assert find_variant("VGG16_BN") is VARIANTS["vgg16_bn"]


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownVariantError, match=r"'vgg16bn'.*vgg16_bn"):
        find_variant("vgg16bn")


def test_a_name_like_no_other_is_answered_with_all():
    with pytest.raises(UnknownVariantError, match=r"there are vgg11, .*vgg16_cifar_bn"):
        find_variant("resnet")
