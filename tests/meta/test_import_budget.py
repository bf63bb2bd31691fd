"""What is loaded by what has to start fast, seen from outside: the interpreter's own list."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.meta.repository import ROOT

HEAVY = {"onnx", "onnxruntime", "openvino", "pandas", "pyarrow", "scipy", "torch", "torchvision"}
# What no worker needs: it runs in environments that have numpy and one backend.
PARENTS_OWN = {"filelock", "jinja2", "psutil", "pydantic", "rich", "typer"}
THIRD_PARTY = HEAVY | PARENTS_OWN | {"numpy"}


def loaded_by(*arguments: str, code: int = 0) -> set[str]:
    """Return the top-level packages that a fresh interpreter loads, which ends in this code."""
    command = [sys.executable, "-X", "importtime", *arguments]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == code, answer.stderr.splitlines()[-1]
    lines = [line for line in answer.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (("-c", "import vggbench"), THIRD_PARTY),
        (("-c", "import vggbench.environment"), THIRD_PARTY),
        (("-c", "import vggbench.stats, vggbench.plan, vggbench.results"), HEAVY),
        (("-c", "import vggbench.measure.worker"), HEAVY | PARENTS_OWN),
        (("-m", "vggbench", "--help"), HEAVY),
        (("-m", "vggbench", "run", "--help"), HEAVY),
        (("-m", "vggbench", "profile", "--help"), HEAVY),
        (("-m", "vggbench", "accuracy", "--help"), HEAVY),
        (("-m", "vggbench", "train", "--help"), HEAVY),
        (("-m", "vggbench", "list"), HEAVY),
        (("-m", "vggbench", "show", "vgg16"), HEAVY),
        (("-m", "vggbench", "audit", "reports/two-core-cpu"), HEAVY),
        (("-c", "import vggbench.gate.decide, vggbench.gate.junit, vggbench.gate.github"), HEAVY),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_nothing_heavy_is_loaded(arguments: tuple[str, ...], forbidden: set[str]) -> None:
    loaded = loaded_by(*arguments)
    assert "vggbench" in loaded
    assert loaded & forbidden == set()


@pytest.mark.parametrize("form", ["table", "junit"])
def test_comparing_two_runs_loads_nothing_heavy(form: str) -> None:
    runs = ("reports/two-core-amx", "reports/two-core-amx-40", "--changed", "commit")
    loaded = loaded_by("-m", "vggbench", "compare", *runs, "--format", form, code=3)
    assert {"numpy", "vggbench"} <= loaded
    assert loaded & HEAVY == set()


def test_the_list_sees_what_is_loaded() -> None:
    assert "numpy" in loaded_by("-c", "import vggbench.stats")
