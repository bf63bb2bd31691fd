"""The two Python environments of a paired gate: which interpreter each has, what is installed there, what differs.

An environment is asked by a process of its own; it needs no vggbench, and one that has another is not disturbed by it:
`own_source` lets its Python import this one's source and nothing else of this one's environment. Standard library only.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vggbench.environment.software import LIBRARIES
from vggbench.errors import RequestError
from vggbench.gate.records import Side
from vggbench.measure.client import WORKER_MODULE, WorkerClient

SIDES: tuple[Side, Side] = ("base", "head")
# What the gate's own source needs there, beside the backends and what exports for them.
NEEDED = ("numpy", "pydantic", "filelock")
EXPORTING = ("torch", "onnx", "onnxscript")
OLDEST_PYTHON = (3, 11)  # that reads this source
_INTERPRETERS = ("bin/python", "bin/python3", "Scripts/python.exe", "python.exe")
_LOOK_TIMEOUT_S = 120.0  # an environment of gigabytes on a cold disk
_LONGEST_QUOTE = 200  # characters of an interpreter's complaint that say enough of it


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonEnvironment:
    """What one side's environment is.

    Attributes:
        python: absolute path of its interpreter, links in it not followed: they decide what it imports.
        version: of that Python.
        distributions: version by name of all that is installed.
        folders: that distributions are installed in.
        lacking: which of the modules that the gate may need there are not there.
    """

    python: str
    prefix: str
    version: str
    distributions: Mapping[str, str]
    folders: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What it is called in a report."""
        return f"{self.prefix} (Python {self.version})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Starter:
    """Starts processes of one side with this vggbench's source."""

    python: str
    variables: Mapping[str, str]

    def __call__(self, *, timeout_s: float = _LOOK_TIMEOUT_S, module: str = WORKER_MODULE) -> WorkerClient:
        """Start a worker, or another module that obeys line by line."""
        return WorkerClient(python=self.python, timeout_s=timeout_s, module=module, variables=self.variables)


Starters = Mapping[Side, Starter]


def interpreter_of(place: str) -> str:
    """Return the interpreter that a folder or a path names; `RequestError` if there is none."""
    if not place.strip():
        raise RequestError("an environment's name is empty; give its folder or its interpreter")
    path = Path(os.path.abspath(Path(place).expanduser()))  # noqa: PTH100 - resolve() would follow a venv's link
    if path.is_dir():
        found = [path / name for name in _INTERPRETERS if (path / name).is_file()]
        if not found:
            raise RequestError(f"{place} is no Python environment: it has no {_INTERPRETERS[0]}; give one's folder")
        return str(found[0])
    if not path.is_file():
        raise RequestError(f"{place} is not there; give the folder of a Python environment, or its interpreter")
    if not os.access(path, os.X_OK):
        raise RequestError(f"{place} is no interpreter: it cannot be executed; give one's path, or a folder")
    return str(path)


@contextmanager
def own_source() -> Iterator[dict[str, str]]:
    """Yield the variables with which any Python imports this vggbench, and nothing else of where it is installed.

    PYTHONPATH names a folder that holds this package alone: it comes before whatever the environment has, also in the
    processes that its processes start.
    """
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
    package = Path(__file__).resolve().parents[1]
    with _empty_folder() as folder:
        (Path(folder) / package.name).symlink_to(package, target_is_directory=True)
        yield {**kept, "PYTHONPATH": folder}


def _empty_folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="vggbench-")
    except OSError as error:
        raise RequestError(f"no temporary folder can be made: {error.strerror}; set TMPDIR to another") from None


def starters(environments: Mapping[Side, PythonEnvironment], variables: Mapping[str, str]) -> dict[Side, Starter]:
    """Return what starts each side's processes."""
    return {side: Starter(python=environments[side].python, variables=variables) for side in SIDES}


def look(side: Side, place: str, needed: Iterable[str] = NEEDED) -> PythonEnvironment:
    """Return what is in an environment.

    Raises:
        RequestError: no Python is there, it cannot be asked, is too old, or lacks one of the modules needed.
    """
    python = interpreter_of(place)
    found = _ask(side, python)
    version = ".".join(map(str, found["version"]))
    if tuple(found["version"]) < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        raise RequestError(f"{side}: {python} is Python {version}; the gate needs {oldest} or newer there")
    environment = PythonEnvironment(
        python=python,
        prefix=found["prefix"],
        version=version,
        distributions=found["distributions"],
        folders=tuple(found["folders"]),
        lacking=tuple(found["lacking"]),
    )
    require(side, environment, needed)
    return environment


def require(side: Side, environment: PythonEnvironment, modules: Iterable[str]) -> None:
    """Raise `RequestError` where the environment lacks one of the modules."""
    lacking = " ".join(name for name in modules if name in environment.lacking)
    if lacking:
        python = environment.python
        raise RequestError(f"{side}: {python} lacks {lacking}; install it there: {python} -m pip install {lacking}")


def _ask(side: Side, python: str) -> dict[str, Any]:
    """Run the inspection there, in an empty folder: nothing of the working directory is imported."""
    source = (Path(__file__).parent / "inspection.py").read_text(encoding="utf-8")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        with _empty_folder() as folder:
            answer = subprocess.run(
                [python, "-c", source, *NEEDED, *EXPORTING],
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_LOOK_TIMEOUT_S,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else f"no answer within {_LOOK_TIMEOUT_S:.0f} s"
        raise RequestError(f"{side}: {python} cannot be asked what is installed: {reason}") from None
    try:
        return dict(json.loads(answer.stdout.splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        said = [line.strip() for line in (answer.stdout + answer.stderr).splitlines() if line.strip()]
        reason = said[-1][:_LONGEST_QUOTE] if said else f"it ended with code {answer.returncode} and said nothing"
        raise RequestError(f"{side}: {python} is no Python that can be used: {reason}") from None


def differences(base: PythonEnvironment, head: PythonEnvironment) -> dict[str, tuple[object, object]]:
    """Return where two environments differ, both versions by name: the libraries that matter first, then the others."""
    left = {"python": base.version, **base.distributions}
    right = {"python": head.version, **head.distributions}
    ranks = {name: rank for rank, name in enumerate(("python", *LIBRARIES))}
    names = sorted(left.keys() | right.keys(), key=lambda name: (ranks.get(name, len(ranks)), name))
    return {name: (left.get(name), right.get(name)) for name in names if left.get(name) != right.get(name)}
