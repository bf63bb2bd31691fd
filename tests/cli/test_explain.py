import json

import pytest

from vggbench.models.configs import VARIANTS
from vggbench.models.explanation import SOURCE, explain
from vggbench.models.spec import make_spec

WIDTH = 80


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variants_explanation_fits_80_columns(command_line, name):
    said = command_line("show", "--explain", name)
    assert said.code == 0
    assert max(map(len, said.out.splitlines())) <= WIDTH
    assert SOURCE in " ".join(said.out.split())


def test_the_numbers_are_the_networks(command_line):
    lines = [" ".join(line.split()) for line in command_line("show", "--explain", "vgg16").out.splitlines()]
    assert "2 3x3 64 > 64 x2 5x5 73,856 102,464 72 %" in lines
    assert "3 3x3 512 > 512 x3 7x7 7,079,424 12,845,568 55 %" in lines
    assert "block 5 512 > 512 x3 7x7 7,079,424 12,845,568 55 %" in lines
    assert "linear layers 123,642,856 89.4 0.124 0.8" in lines
    assert "classifier.0 alone has 74.3 % of the parameters and 0.7 % of the MACs." in lines
    assert "64 conv3x3, relu 64x224x224 3 1,792" in lines
    assert "M 2x2 max pool 512x7x7 212" in lines
    assert "linear, relu, dropout 4096 404 102,764,544" in lines
    assert not any("1x1" in line for line in lines)


def test_a_1x1_is_explained_where_there_is_one(command_line):
    lines = [" ".join(line.split()) for line in command_line("show", "--explain", "C").out.splitlines()]
    assert "What its 1x1 convolutions do" in lines
    assert "features.14 256 > 256 32 32 65,792 590,080" in lines


def test_a_network_of_ones_own(command_line):
    said = command_line("show", "--explain", "--config", "8,M,16@1", "--batch-norm", "--num-classes", "5")
    assert said.code == 0
    assert "The network itself has no two 3x3 convolutions in a row." in said.out
    assert "16@1 conv1x1, bn, relu" in said.out
    assert max(map(len, said.out.splitlines())) <= WIDTH


def test_a_network_without_any_3x3(command_line):
    said = command_line("show", "--explain", "--config", "8@1,M")
    assert said.code == 0
    assert "This network has no 3x3 convolution." in said.out


def test_the_widest_network_that_is_built_fits_too(command_line):
    shape = ("--config", "16384," * 8 + "16384@1", "--input-size", "8192", "--lrn", "literal", "--batch-norm")
    said = command_line("show", "--explain", *shape, "--classifier-width", "64")
    assert said.code == 0
    assert max(map(len, said.out.splitlines())) <= WIDTH


def test_the_same_as_json(command_line):
    document = json.loads(command_line("show", "--explain", "vgg16_c", "--json").out)
    spec, found = make_spec("vgg16_c"), explain(make_spec("vgg16_c"))
    assert (document["spec"], document["source"]) == (spec.to_json(), SOURCE)
    assert [step["receptive_field"] for step in document["steps"]] == [step.receptive_field for step in found.steps]
    assert [stack["parameters"] for stack in document["stacks"]] == [stack.parameters for stack in found.stacks]
    assert len(document["imagined"]) == 8
    assert [layer["name"] for layer in document["pointwise"]] == ["features.14", "features.21", "features.28"]
    assert document["largest"]["part"] == "classifier.0"


def test_a_batch_is_not_explained(command_line):
    said = command_line("show", "--explain", "vgg16", "--batch-size", "2")
    assert said.code == 2
    assert "--explain is of one image" in said.message
