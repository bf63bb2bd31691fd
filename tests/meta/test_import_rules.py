"""Who may import whom: data flows one way, and the folders stand in that order."""

from __future__ import annotations

import re
import sys
import tomllib

import pytest

from tests.meta.repository import ROOT, imports_of, modules

# Each may import those before it.
ORDER = (
    *("models", "data", "artefacts", "backends", "parity", "measure", "plan", "results", "train", "audit", "report"),
    *("preparation", "runner", "profiling", "classification", "bisection", "tolerances", "gate", "api"),
)
# Everybody may import these; here is what they may import themselves.
COMMON = {"errors": set[str](), "version": set[str](), "stats": {"errors"}, "environment": {"errors", "version"}}
# A job that only compares two runs loads nothing else; names and types of backends are no backends.
PURE = ("audit", "errors", "gate", "plan", "results", "stats")
NAMES_OF_BACKENDS = {"vggbench.backends", "vggbench.backends.base", "vggbench.backends.registry"}
FRAMEWORKS = {"onnx", "onnx_ir", "onnxruntime", "onnxscript", "openvino", "torch", "torchvision"}
HEAVY = FRAMEWORKS | {"pandas", "plotly", "pyarrow", "safetensors", "scipy"}
# Torch code through and through: loads torch with itself, and is imported inside functions only.
LOADS_TORCH = {"vggbench.models.vgg", "vggbench.models.initialization", "vggbench.artefacts.graph"}
# Where the distribution is called otherwise than the module, or brings it along.
DISTRIBUTIONS = {"PIL": "pillow", "google": "onnx", "onnx_ir": "onnxscript", "pynvml": "nvidia-ml-py"}

MODULES = [pytest.param(name, id=name) for name in modules()]


def part_of(module: str) -> str:
    """Return the folder or file directly below the package: `vggbench.models.vgg` is in `models`."""
    return module.split(".")[1] if "." in module else ""


def allowed_parts(part: str) -> set[str]:
    if part in COMMON:
        return {part} | COMMON[part]
    if part in ("", "cli"):
        return {part, *ORDER, *COMMON}
    if part == "__main__":
        return {"cli", *COMMON}
    return {*ORDER[: ORDER.index(part) + 1], *COMMON}


def test_every_part_has_its_place() -> None:
    known = {"", "__main__", "cli", *ORDER, *COMMON}
    assert {part_of(module) for module in modules()} <= known


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module: str) -> None:
    allowed = allowed_parts(part_of(module))
    wrong = [
        f"line {found.line}: {found.name}"
        for found in imports_of(modules()[module])
        if found.name.startswith("vggbench.") and part_of(found.name) not in allowed
    ]
    assert wrong == []


@pytest.mark.parametrize("module", MODULES)
def test_heavy_libraries_are_imported_inside_functions(module: str) -> None:
    forbidden = HEAVY | (LOADS_TORCH if module not in LOADS_TORCH else set())
    if module in LOADS_TORCH:
        forbidden -= {"torch"}
    wrong = [
        f"line {found.line}: {found.name}"
        for found in imports_of(modules()[module])
        if found.place == "module" and {found.name, found.name.partition(".")[0]} & forbidden
    ]
    assert wrong == []


@pytest.mark.parametrize("module", [name for name in modules() if part_of(name) in PURE])
def test_what_only_compares_knows_no_framework(module: str) -> None:
    wrong = [
        f"line {found.line}: {found.name}"
        for found in imports_of(modules()[module])
        if found.name.partition(".")[0] in FRAMEWORKS
        or (part_of(found.name) == "backends" and found.name not in NAMES_OF_BACKENDS)
    ]
    assert wrong == []


def test_pandas_is_known_to_one_module() -> None:
    users = {
        module
        for module, path in modules().items()
        for found in imports_of(path)
        if found.name.partition(".")[0] == "pandas" and found.place != "types"
    }
    assert users <= {"vggbench.report.frame"}


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w.-]", line)[0].lower() for line in project["dependencies"]}
    imported = {found.name.partition(".")[0] for path in modules().values() for found in imports_of(path)}
    third_party = imported - sys.stdlib_module_names - {"vggbench"}
    assert {DISTRIBUTIONS.get(name, name) for name in third_party} <= declared
