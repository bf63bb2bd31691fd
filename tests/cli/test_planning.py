"""The options that choose cells, as a selection."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from vggbench.cli.options import split_commas
from vggbench.cli.planning import CellChoice, choose_cells, choose_model, takes_cells, takes_model
from vggbench.errors import RequestError
from vggbench.models.spec import make_spec
from vggbench.plan import Selection


def chosen(*arguments: str) -> CellChoice:
    """Return what the options become."""
    choices: list[CellChoice] = []
    app = typer.Typer()

    @takes_cells
    def command(choice: CellChoice, own: bool = False) -> None:
        """Note the choice."""
        assert own is ("--own" in arguments)
        choices.append(choice)

    app.command()(command)
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return choices[0]


def test_nothing_given_is_nothing_chosen():
    assert chosen() == CellChoice({}, None, None, None)


def test_every_option_is_a_field_of_a_selection():
    choice = chosen(
        *(
            "--variant",
            "A,vgg16",
            "--variant",
            "E",
            "--config",
            "8,M",
            "--onnx",
            "a,b",
            "--batch-norm",
            "--lrn",
            "divided",
        ),
        *("--num-classes", "7", "--input-size", "32", "--head", "flatten", "--classifier-width", "9"),
        *("--outputs", "probabilities", "--weights", "init", "--seed", "4", "--backend", "torch,fake:fault=nan"),
        *("--precision", "fp32, bf16", "--keep-fp32", "features.0,classifier.6"),
        *("--calibration", "synthetic", "--calibration-method", "entropy"),
        *("--batch-size", "1", "--batch-size", "2,4", "--threads", "1", "--own"),
    )
    assert choice.chosen == {
        "variant": ["A", "vgg16", "E"],
        "config": "8,M",
        "onnx": ["a,b"],
        "batch_norm": True,
        "local_response_norm": "divided",
        "num_classes": 7,
        "input_size": 32,
        "head": "flatten",
        "classifier_width": 9,
        "outputs": "probabilities",
        "weights": "init",
        "weights_seed": 4,
        "backend": ["torch", "fake:fault=nan"],
        "precision": ["fp32", "bf16"],
        "keep_fp32": ["features.0", "classifier.6"],
        "calibration": "synthetic",
        "calibration_method": "entropy",
        "batch_size": [1, 2, 4],
    }
    in_plans_alone = {"stage", "if_missing"}  # they set tables of cells apart, and the command line has one
    assert set(choice.chosen) == set(Selection.model_fields) - in_plans_alone
    assert choice.threads == 1


@pytest.mark.parametrize("arguments", [("--no-batch-norm",), ("--batch-norm",)])
def test_batch_norm_may_be_asked_for_or_away(arguments: tuple[str, ...]):
    assert chosen(*arguments).chosen == {"batch_norm": arguments == ("--batch-norm",)}


def test_an_option_with_its_defaults_value_is_given_all_the_same():
    choice = chosen("--classifier-width", "4096", "--outputs", "logits", "--weights", "random", "--seed", "0")
    assert choice.chosen == {"classifier_width": 4096, "outputs": "logits", "weights": "random", "weights_seed": 0}


def test_shared_options_come_before_a_commands_own():
    def command(choice: object, own: bool = False) -> None:
        """Do nothing."""

    model = list(inspect.signature(choose_model).parameters)
    cells = list(inspect.signature(choose_cells).parameters)[:-1]  # without what stands for a model's
    assert list(inspect.signature(takes_model(command)).parameters) == ["context", *model, "own"]
    wrapped = takes_cells(command)
    assert list(inspect.signature(wrapped).parameters) == ["context", *model, *cells, "own"]
    assert (wrapped.__name__, wrapped.__doc__) == ("command", "Do nothing.")


def test_every_option_of_a_model_is_one_of_make_spec():
    assert inspect.signature(choose_model).parameters.keys() == inspect.signature(make_spec).parameters.keys()


@given(st.lists(st.text(st.characters(exclude_characters=",", exclude_categories=["Z", "C"]), min_size=1), min_size=1))
def test_items_come_apart_as_they_went_together(items: list[str]):
    stripped = [item.strip() for item in items]
    assert split_commas([",".join(items)]) == split_commas(items) == split_commas([", ".join(items)]) == stripped


@pytest.mark.parametrize("values", [[""], [","], ["a,"], ["a", " "], ["a,,b"]])
def test_an_empty_item_is_refused(values: list[str]):
    with pytest.raises(RequestError, match="an item is empty"):
        split_commas(values)


def test_no_values_are_no_items():
    assert split_commas(None) == split_commas([]) == []


@given(st.lists(st.text(max_size=6), min_size=1, max_size=3))
def test_any_batch_size_is_numbers_or_an_error_in_one_line(texts: list[str]):
    try:
        choice = choose_cells(batch_size=texts)
    except RequestError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either is right
    else:
        sizes: Any = choice.chosen["batch_size"]
        assert all(type(size) is int for size in sizes)
