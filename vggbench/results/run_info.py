"""`run.json`: what was planned, what was prepared for it, and where. No torch, no pandas.

SCHEMA_VERSION counts changes, here or in the journal's records, that an older reader would misread; the history:

    1   the first
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any

from pydantic import AfterValidator, TypeAdapter, ValidationError

from vggbench.errors import RequestError, RunFolderError
from vggbench.measure.records import Failure
from vggbench.plan import Plan

SCHEMA_VERSION = 1
FILE_NAME = "run.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What a cell is measured with, or why it cannot be.

    Attributes:
        artefact: `Artefact.to_json` without its folder, which is this machine's own business.
        reference_sha256: of the float64 reference's files.
        tolerance: largest error relative to the signal that passes.
        macs: multiply-accumulates of one image.
        failure: set where preparing failed; the other fields are then empty.
    """

    artefact: Mapping[str, Any] = field(default_factory=dict)
    artefact_bytes: int = 0
    reference_sha256: str = ""
    tolerance: float = 0.0
    macs: int = 0
    parameters: int = 0
    failure: Failure | None = None


def _check_environment(environment: Mapping[str, Any]) -> Mapping[str, Any]:
    """Look at the parts that are read from here; the rest is compared, and may be anything."""
    for part in ("system", "libraries"):
        if not isinstance(environment.get(part, {}), Mapping):
            raise ValueError(f"{part} is not a table")
    return environment


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """The head of a run; `prepared` is empty until every artefact is made."""

    schema_version: int
    vggbench_version: str
    started_at: str
    plan: Plan
    environment: Annotated[Mapping[str, Any], AfterValidator(_check_environment)]
    device_name: str
    backend_versions: Mapping[str, str]
    prepared: Mapping[str, Prepared]


_RUN_INFO = TypeAdapter(RunInfo)


def write_run_info(folder: Path, info: RunInfo) -> None:
    """Write `run.json` whole or not at all; `RunFolderError` if it cannot be."""
    text = json.dumps(asdict(info), indent=1, allow_nan=False) + "\n"
    write_whole(folder / FILE_NAME, lambda file: file.write(text.encode()))


def read_run_info(folder: Path) -> RunInfo:
    """Read `run.json`; `RunFolderError` says what is wrong with the folder."""
    path = folder / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text)
    except FileNotFoundError:
        raise RunFolderError(f"{folder} holds no run: {FILE_NAME} is missing") from None
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} is not JSON: {error}") from None
    found = data.get("schema_version") if isinstance(data, dict) else None
    if found != SCHEMA_VERSION:
        raise RunFolderError(f"{path} has schema version {found!r}, this vggbench reads {SCHEMA_VERSION}")
    try:
        return _RUN_INFO.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RunFolderError(f"{path}: {key}: {first['msg']}") from None
    except RequestError as error:
        raise RunFolderError(f"{path}: the plan in it cannot be read: {error}") from None


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under a temporary name, flush it to disk and rename it: never half a file under its name.

    Raises `RunFolderError` where that cannot be done; what was there before stays.
    """
    try:
        _write_whole(path, write)
    except OSError as error:
        raise RunFolderError(f"{path} cannot be written: {error.strerror}; make room or name another folder") from None


def _write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # noqa: PTH101 - a report is for others to read; mkstemp makes it private
        os.replace(temporary, path)  # noqa: PTH105 - the temporary name is a string
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
