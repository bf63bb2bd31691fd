"""The repository as its own tests see it: its files, its modules, and what each module imports."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "vggbench"


@dataclass(frozen=True)
class Import:
    """One module that a module imports, and where: when it is loaded, in a function, or for the type checker alone."""

    name: str
    line: int
    place: str  # "module", "function" or "types"


def modules() -> dict[str, Path]:
    """Return the package's files by dotted name; a package by its own name."""
    return {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def python_files() -> list[Path]:
    return sorted(path for folder in ("vggbench", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))


def benchmark(name: str) -> ModuleType:
    """Return a script of `benchmarks/`, loaded without being run."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    return tuple(_imports(ast.parse(path.read_text()), "module"))


def _imports(node: ast.AST, place: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, place) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from _from(child, place)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _imports(child, "function" if place == "module" else place)
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from _imports(child, "types")
        else:
            yield from _imports(child, place)


def _from(node: ast.ImportFrom, place: str) -> Iterator[Import]:
    """`from a import b` imports `a.b` where that is a module of ours, and `a` in any case."""
    assert node.module is not None, "relative imports are not used"
    yield Import(node.module, node.lineno, place)
    for alias in node.names:
        if f"{node.module}.{alias.name}" in modules():
            yield Import(f"{node.module}.{alias.name}", node.lineno, place)


@cache
def committed_files() -> tuple[Path, ...]:
    """Return what is in git or about to be: tracked files, and new ones that are not ignored."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(path for name in answer.stdout.split("\0") if name and (path := ROOT / name).is_file())
