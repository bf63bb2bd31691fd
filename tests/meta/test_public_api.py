from __future__ import annotations

import subprocess
import sys

import pytest

import vggbench
from tests.meta.repository import ROOT

FUNCTIONS = ("accuracy", "build", "export", "predict", "run", "verify")


def test_the_public_names_are_these() -> None:
    assert set(vggbench.__all__) >= set(FUNCTIONS)


def test_the_list_is_sorted_and_whole() -> None:
    assert list(vggbench.__all__) == sorted(vggbench.__all__)
    assert [name for name in vggbench.__all__ if not hasattr(vggbench, name)] == []


@pytest.mark.parametrize(
    "imports",
    ["import vggbench", "import vggbench, vggbench.artefacts.artefact", "from vggbench.artefacts import artefact"],
)
def test_the_functions_are_not_hidden_by_folders_of_their_name(imports: str) -> None:
    # Loading a submodule binds its name in the package: `export` is a folder too.
    code = f"{imports}; import vggbench; print(*(callable(getattr(vggbench, name)) for name in {FUNCTIONS}))"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.split() == ["True"] * len(FUNCTIONS)
