"""`run.json`: what was planned, what was prepared for it, and where. No torch, no pandas.

SCHEMA_VERSION counts changes, here or in the journal's records, that an older reader would misread; the history:

    1   the first
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter

from vggbench.errors import RunFolderError
from vggbench.measure.records import Failure
from vggbench.measure.roofline import Ceiling
from vggbench.measure.saturation import TriedRate
from vggbench.plan import Plan
from vggbench.results.heads import read_head
from vggbench.results.run_folder import write_whole

SCHEMA_VERSION = 1
FILE_NAME = "run.json"


def _check_artefact(artefact: Mapping[str, Any]) -> Mapping[str, Any]:
    """Look at the parts that rows are made of; there are none where preparing failed."""
    if artefact and not isinstance(artefact.get("sha256"), str):
        raise ValueError(f"sha256 is {artefact.get('sha256')!r}, not text")
    if artefact and (isinstance(seconds := artefact.get("seconds"), bool) or not isinstance(seconds, int | float)):
        raise ValueError(f"seconds is {seconds!r}, not a number")
    return artefact


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What a cell is measured with, or why it cannot be.

    Attributes:
        artefact: `Artefact.to_json` without its folder, which is this machine's own business.
        reference_sha256: of the float64 reference's files.
        tolerance: largest error relative to the signal that passes.
        macs: multiply-accumulates of one image.
        works: (multiply-accumulates of one image, weights) of each layer with any; empty in a run of an older version.
        in_flight_tried: what several requests in flight were seen to complete before the first round.
        failure: set where preparing failed; the other fields are then empty.
    """

    artefact: Annotated[Mapping[str, Any], AfterValidator(_check_artefact)] = field(default_factory=dict)
    artefact_bytes: int = 0
    reference_sha256: str = ""
    tolerance: float = 0.0
    macs: int = 0
    parameters: int = 0
    works: tuple[tuple[int, int], ...] = ()
    in_flight_tried: tuple[TriedRate, ...] = ()
    failure: Failure | None = None


def _check_environment(environment: Mapping[str, Any]) -> Mapping[str, Any]:
    """Look at the parts that are read from here; the rest is compared, and may be anything."""
    for part in ("system", "libraries", "variables"):
        if not isinstance(environment.get(part, {}), Mapping):
            raise ValueError(f"{part} is not a table")
    for name, value in (("commit", environment.get("commit")), ("driver", environment.get("system", {}).get("driver"))):
        if not isinstance(value, str | None):
            raise ValueError(f"{name} is {value!r}, not text")
    return environment


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """The head of a run; `prepared` is empty until every artefact is made, `ceilings` has those of start and end."""

    schema_version: int
    vggbench_version: str
    started_at: str
    plan: Plan
    environment: Annotated[Mapping[str, Any], AfterValidator(_check_environment)]
    device_name: str
    backend_versions: Mapping[str, str]
    prepared: Mapping[str, Prepared]
    ceilings: tuple[Ceiling, ...] = ()
    idle_power_w: float | None = None


_RUN_INFO = TypeAdapter(RunInfo)


def write_run_info(folder: Path, info: RunInfo, name: str = FILE_NAME) -> None:
    """Write `run.json`, or a file of another name, whole or not at all; `RunFolderError` if it cannot be."""
    text = json.dumps(asdict(info), indent=1, allow_nan=False) + "\n"
    write_whole(folder / name, lambda file: file.write(text.encode()))


def held_runs(folder: Path) -> list[Path]:
    """Return the folders in this one that hold a run, by name; one whose name begins with a dot is half-made."""
    try:
        return sorted(found for found in folder.iterdir() if found.name[0] != "." and (found / FILE_NAME).exists())
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be read: {error.strerror}") from None


def read_run_info(folder: Path, name: str = FILE_NAME) -> RunInfo:
    """Read `run.json`, or a file of another name; `RunFolderError` says what is wrong with the folder."""
    return read_head(folder / name, _RUN_INFO, what="run", schema=SCHEMA_VERSION, numbers=("plan", "prepared"))
