"""`--plan FILE.toml`: what a plan file says, and what is said of a wrong one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import edited, many
from tests.fakes import known
from vggbench.errors import PlanError, VggbenchError
from vggbench.plan import MOST_ROUNDS, Pace, Selection, expand, read_plan_file


@pytest.fixture
def plan_file(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(text: str | bytes) -> Path:
        path = tmp_path / "plan.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_a_plan_file_in_full(plan_file):
    file = read_plan_file(
        plan_file(
            """
            rounds = 8
            time_budget_s = 60
            threads = 2
            device = "cpu"
            seed = 3
            search_in_flight = false
            [[cells]]
            variant = "vgg11"
            batch_size = [1, 8]
            stage = 2
            if_missing = "unsupported"
            [[cells]]
            config = ["8,M", "16,M"]
            backend = "onnxruntime"
            precision = ["fp32"]
            weights_seed = 4
            """
        )
    )
    assert (file.rounds, file.time_budget_s, file.threads, file.device, file.seed) == (8, 60, 2, "cpu", 3)
    assert file.search_in_flight is False
    assert file.cells == [
        Selection(variant=["vgg11"], batch_size=[1, 8], stage=2, if_missing="unsupported"),
        Selection(config=["8,M", "16,M"], backend=["onnxruntime"], precision=["fp32"], weights_seed=4),
    ]


CELLS = "[[cells]]\nvariant = 'vgg11'\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "colour = 1\n" + CELLS,
            "'colour' is no key here; there are rounds, replicas, time_budget_s, round_seconds, search_in_flight, ",
        ),
        (CELLS + "colour = 1", "'cells.0.colour' is no key here; there are variant, config, onnx, backend"),
        ("rounds = 'six'\n" + CELLS, "rounds: Input should be a valid integer, not 'six'"),
        ("rounds = 0\n" + CELLS, "rounds: Input should be greater than or equal to 1, not 0"),
        ("rounds = 1000000\n" + CELLS, f"rounds: Input should be less than or equal to {MOST_ROUNDS}"),
        ("replicas = 0\n" + CELLS, "replicas: Input should be greater than or equal to 1, not 0"),
        ("replicas = 101\n" + CELLS, "replicas: Input should be less than or equal to 100"),
        ("rounds = 2.0\n" + CELLS, "rounds: Input should be a valid integer, not 2.0"),
        ("time_budget_s = 0\n" + CELLS, "time_budget_s: Input should be greater than 0"),
        ("time_budget_s = nan\n" + CELLS, "time_budget_s: Input should be "),
        ("time_budget_s = inf\n" + CELLS, "time_budget_s: Input should be less than or equal to"),
        (
            "time_budget_s = 9\nround_seconds = 2\n" + CELLS,
            "time_budget_s and round_seconds both say how long is measured; give one",
        ),
        ("round_seconds = 0\n" + CELLS, "round_seconds: Input should be greater than 0"),
        (CELLS + "stage = 101", "cells.0.stage: Input should be less than or equal to 100"),
        (CELLS + "if_missing = 'skip'", "cells.0.if_missing: Input should be 'refuse' or 'unsupported'"),
        ("threads = 0\n" + CELLS, "threads: Input should be greater than or equal to 1"),
        ("device = 0\n" + CELLS, "device: Input should be a valid string, not 0"),
        ("seed = -1\n" + CELLS, "seed: Input should be greater than or equal to 0"),
        (CELLS + "batch_size = '1'", "cells.0.batch_size.0: Input should be a valid integer, not '1'"),
        (CELLS + "batch_size = []", "cells.0.batch_size: List should have at least 1 item after validation, not 0"),
        (CELLS + "batch_norm = 1", "cells.0.batch_norm: Input should be a valid boolean, not 1"),
        (CELLS + "input_size = 2026-01-01", "cells.0.input_size: Input should be a valid integer, not datetime.date"),
        ("", "cells: Field required"),
        ("rounds = 6", "cells: Field required"),
        ("cells = []", "cells: List should have at least 1 item after validation, not 0"),
        ("cells = 3", "cells: Input should be a valid list, not 3"),
        ("cells = ['vgg11']", "cells.0: Input should be a valid dictionary"),
        ("[cells]\nvariant = 'vgg11'", "cells: Input should be a valid list"),
        ('"a\\nb" = 1\n' + CELLS, "is no key here"),
        ("rounds = ", "is not TOML: Invalid value"),
        ("rounds = 6\nrounds = 7", "is not TOML: Cannot overwrite a value"),
        (b"\xff\xfe", "is not TOML: 'utf-8' codec"),
        ("a = " + "9" * 5000, "is not TOML: "),
        ("a = " + "[" * 20_000, "is not TOML that can be read: it is nested too deeply"),
    ],
)
def test_a_wrong_plan_file_is_one_line_with_file_key_and_what_belongs_there(plan_file, text: str | bytes, words: str):
    path = plan_file(text)
    with pytest.raises(PlanError) as caught:
        read_plan_file(path)
    assert str(caught.value).startswith(f"plan {path}")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plan_file_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(PlanError, match=r"missing\.toml cannot be read: No such file or directory"):
        read_plan_file(tmp_path / "missing.toml")
    with pytest.raises(PlanError, match="cannot be read: Is a directory"):
        read_plan_file(tmp_path)


def as_toml(value: Any) -> str:
    """Return a value as TOML; JSON's texts are TOML's too where they are ASCII."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_toml(key)} = {as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(as_toml(item) for item in value) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(character):08x}" for character in value) + '"'
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else "nan"
    return json.dumps(value)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.integers(-5, 5000) | st.booleans() | st.floats() | TEXTS | st.integers()
WORDS = st.sampled_from(
    ["vgg11", "D", "8,M", "8,M,16@1", "fake", "torch", "fake:fault=nan", "fp32", "bf16", "adaptive", "flatten", "init"]
)
VALUES = st.recursive(
    SCALARS | WORDS, lambda items: st.lists(items, max_size=3) | st.dictionaries(TEXTS, items, max_size=2)
)
SELECTIONS = st.dictionaries(st.sampled_from(list(Selection.model_fields)) | TEXTS, VALUES, max_size=4)
PLANS = st.fixed_dictionaries(
    {"cells": st.lists(SELECTIONS, max_size=3) | VALUES},
    optional={
        "rounds": VALUES,
        "replicas": VALUES,
        "time_budget_s": VALUES,
        "threads": VALUES,
        "device": VALUES,
        "seed": VALUES,
    },
)


@many
@given(PLANS)
def test_any_plan_is_cells_or_an_error_in_one_line(plan_file, plan: dict[str, Any]):
    path = plan_file("\n".join(f"{as_toml(key)} = {as_toml(value)}" for key, value in plan.items()))
    judged(path)


def judged(path: Path) -> None:
    """Make cells of a plan file, or check that the error is one line."""
    try:
        file = read_plan_file(path)
        cells = expand(file.cells, device="cpu", threads=file.threads or 2, probe=known)
        Pace(rounds=file.rounds or 6, replicas=file.replicas or 1, time_budget_s=file.time_budget_s).plan(cells)
    except VggbenchError as error:
        assert error.exit_code in {2, 4}  # noqa: PT017 - either is right
        assert "\n" not in str(error)  # noqa: PT017


WHOLE = b"""rounds = 8  # more than six
time_budget_s = 60.5
threads = 2
device = "cpu"
seed = 3
[[cells]]
variant = "vgg11"
batch_size = [1, 8]
weights = "init"
head = 'adaptive'
[[cells]]
config = ["8,M", "16,M@1"]
backend = "fake:fault=nan"
precision = ["fp32"]
weights_seed = 4
batch_norm = true
input_size = 0x20
"""


@many
@given(edited(WHOLE) | st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode(errors="replace")))
def test_any_text_is_cells_or_an_error_in_one_line(plan_file, content: bytes):
    judged(plan_file(content))
