"""Recipes: what each says, how single values are laid over one, and in which line a wrong one is refused."""

import json
import tomllib
from contextlib import suppress

import pytest
from hypothesis import given

from tests.cases import edited, many, other_value
from tests.train.small import recipe_data
from vggbench.errors import RecipeError
from vggbench.train.recipe import FOLDER, checked_recipe, parse_changes, read_recipe, recipe_names


def test_every_recipe_says_what_it_reproduces_and_where_its_figures_come_from():
    assert recipe_names() == ["cifar-bn", "cifar-tutorial", "fine-tune", "narrow-bn", "vgg16c-plateau"]
    for name in recipe_names():
        recipe = read_recipe(name)
        assert recipe.reproduces
        assert recipe.source.strip()


def test_the_tutorial_is_the_published_one():
    recipe = read_recipe("cifar-tutorial")
    assert recipe.network.variant == "vgg16_cifar"
    assert recipe.images.preprocessing(32).to_json() == {
        "resize": 32,
        "crop": 32,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "scale": "0-1",
    }
    assert (recipe.optimizer.batch_size, recipe.optimizer.learning_rate, recipe.optimizer.momentum) == (512, 0.005, 0.9)
    assert recipe.optimizer.weight_decay == 0
    assert recipe.schedule.model_dump() == {
        "kind": "step",
        "every_epochs": 5,
        "factor": 0.9,
        "stepped": "epoch-start",
    }
    assert (recipe.epochs, recipe.seed) == (50, 777)
    assert (recipe.images.crop_padding, recipe.images.flip, recipe.images.validation_share) == (0, False, 0)


def test_the_plateau_recipe_is_the_published_one():
    recipe = read_recipe("vgg16c-plateau")
    assert (recipe.network.variant, recipe.network.num_classes, recipe.network.dropout) == ("vgg16_c", 10, 0)
    assert recipe.network.spec(10, 0).input_size == 224
    assert recipe.images.scale == "0-255"
    assert (recipe.images.validation_share, recipe.images.validation_seed) == (0.2, 42)
    optimizer = recipe.optimizer
    assert (optimizer.learning_rate, optimizer.momentum, optimizer.weight_decay) == (0.01, 0.9, 5e-4)
    assert (optimizer.decay, optimizer.batch_size) == ("decoupled", 32)
    assert recipe.schedule.model_dump() == {
        "kind": "plateau",
        "factor": 0.1,
        "patience": 1,
        "least_learning_rate": 1e-5,
        "watched": "validation_loss",
        "stepped": "epoch-end",
    }
    assert recipe.epochs == 50


def test_single_values_are_laid_over_a_recipe():
    changes = parse_changes(["optimizer.momentum=0.8", "images.scale=0-255", "images.flip = true", "epochs=3"])
    recipe = read_recipe("cifar-tutorial", changes)
    assert (recipe.optimizer.momentum, recipe.images.scale, recipe.images.flip, recipe.epochs) == (
        0.8,
        "0-255",
        True,
        3,
    )
    assert recipe.optimizer.batch_size == 512


def test_a_file_of_ones_own_is_a_recipe(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text((FOLDER / "narrow-bn.toml").read_text().replace("seed = 0", "seed = 9", 1))
    assert read_recipe(str(path)).seed == 9


def test_a_recipe_survives_json():
    for name in recipe_names():
        recipe = read_recipe(name)
        assert checked_recipe(json.loads(json.dumps(recipe.model_dump(mode="json"))), name) == recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "recipe cifar-tutorial: epochs: input should be greater than or equal to 1, not 0"),
        ({"epoch": 1}, "recipe cifar-tutorial: 'epoch' is no key here"),
        ({"optimizer.speed": 1}, "recipe cifar-tutorial: 'optimizer.speed' is no key here"),
        (
            {"optimizer.learning_rate": float("nan")},
            "recipe cifar-tutorial: optimizer.learning_rate: input should be a finite number, not nan",
        ),
        ({"schedule.kind": "up"}, "recipe cifar-tutorial: schedule: input tag 'up' found using 'kind' does not match"),
        (
            {"schedule": {"kind": "plateau", "factor": 0.1, "patience": 1, "stepped": "epoch-end"}},
            "recipe cifar-tutorial: the schedule watches validation_loss, and images.validation_share keeps no image",
        ),
        (
            {"optimizer.nesterov": True, "optimizer.momentum": 0.0},
            "recipe cifar-tutorial: optimizer: nesterov needs a momentum",
        ),
        ({"images.std": [1, 1]}, "recipe cifar-tutorial: images.std: tuple should have at least 3 items"),
        ({"epochs.much": 1}, "'epochs.much' is no key of a recipe: 'epochs' is no table"),
    ],
)
def test_a_wrong_value_is_one_line(changes, message):
    with pytest.raises(RecipeError) as raised:
        read_recipe("cifar-tutorial", changes)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_a_recipe_that_is_not_there_names_those_that_are(tmp_path):
    with pytest.raises(RecipeError, match=r"'cifar' is neither a file nor one of cifar-bn, cifar-tutorial, fine-tune"):
        read_recipe("cifar")
    with pytest.raises(RecipeError, match="cannot be read: Is a directory"):
        read_recipe(str(tmp_path))
    (tmp_path / "bad.toml").write_text("epochs = ")
    with pytest.raises(RecipeError, match=r"bad.toml is not TOML: "):
        read_recipe(str(tmp_path / "bad.toml"))


@pytest.mark.parametrize("text", ["epochs", "=3", ""])
def test_a_change_without_key_or_value_is_refused(text):
    with pytest.raises(RecipeError, match="is no KEY=VALUE"):
        parse_changes([text])


@many
@given(data=other_value(recipe_data()))
def test_whatever_a_recipe_holds_it_is_read_or_refused(data):
    with suppress(RecipeError):
        checked_recipe(data, "some")


@many
@given(content=edited((FOLDER / "vgg16c-plateau.toml").read_bytes()))
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path, content):
    (tmp_path / "edited.toml").write_bytes(content)
    with suppress(RecipeError):
        read_recipe(str(tmp_path / "edited.toml"))


def test_the_packaged_files_are_toml():
    assert all(tomllib.loads(path.read_text()) for path in FOLDER.glob("*.toml"))
