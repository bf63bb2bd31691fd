"""What an accuracy run keeps beside its rounds: which images it is about, and what each cell said of them.

No torch, no pandas. `accuracy.json` is to such a folder what `run.json` is to a run's, `data.json` says which images
they are, and `predictions.jsonl` has a line a batch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from vggbench.errors import RunFolderError
from vggbench.plan import Plan
from vggbench.results.journal import cut_torn_line, file_errors, whole_lines
from vggbench.results.run_folder import write_whole

INFO_NAME, DATA_NAME, PREDICTIONS_NAME = "accuracy.json", "data.json", "predictions.jsonl"
SCHEMA_VERSION = 1
_REMEDY = "restore the file or start again in a new folder"

Labels = tuple[int, ...]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecord:
    """The images of an accuracy run, and what was asked of them.

    Attributes:
        name: of the data set and its split.
        sha256: of its content.
        images: how many it has.
        used: how many are predicted, evenly spread over the set.
        skipped: files in it that hold no image: (path, why).
        mean, std, resize: what the command line says of the preprocessing instead of the weights; None where nothing.
    """

    name: str
    sha256: str
    images: Count
    used: Count
    skipped: tuple[tuple[str, str], ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | None = None
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedBatch:
    """A line of `predictions.jsonl`.

    Attributes:
        first: place of its first image among those that are used.
        classes: of each image, the likeliest first.
    """

    cell_id: str
    first: Annotated[int, Field(ge=0)]
    classes: Annotated[tuple[tuple[Annotated[int, Field(ge=0)], ...], ...], Field(min_length=1)]


_DATA = TypeAdapter(DataRecord)
_BATCH = TypeAdapter(PredictedBatch)


def write_data_record(folder: Path, data: DataRecord) -> None:
    """Write `data.json` whole or not at all."""
    text = json.dumps(asdict(data), indent=1) + "\n"
    write_whole(folder / DATA_NAME, lambda file: file.write(text.encode()))


def read_data_record(folder: Path) -> DataRecord:
    """Read `data.json`; `RunFolderError` says what is wrong with it."""
    path = folder / DATA_NAME
    with file_errors(path):
        text = path.read_bytes()
    try:
        data = _DATA.validate_json(text, strict=True)
    except ValidationError as error:
        raise RunFolderError(f"{path}: {_first(error)}; {_REMEDY}") from None
    if data.schema_version != SCHEMA_VERSION:
        raise RunFolderError(f"{path} has schema version {data.schema_version}, this vggbench reads {SCHEMA_VERSION}")
    return data


class PredictionJournal:
    """An append-only file of predicted batches; a line torn by a crash is dropped when it is opened again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with file_errors(path):
            cut_torn_line(path)

    def append(self, batch: PredictedBatch) -> None:
        """Write one line; it survives this process, and a loss of power once `flush` was called."""
        line = json.dumps(asdict(batch), separators=(",", ":")) + "\n"
        with file_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(line)

    def flush(self) -> None:
        """Wait until all lines are on the disk."""
        with file_errors(self._path), self._path.open("ab") as file:
            os.fsync(file.fileno())


def read_predictions(folder: Path, plan: Plan, used: int) -> dict[str, list[Labels]]:
    """Return what each cell of the plan has said so far, by cell id: of the first images, one after the other.

    `RunFolderError` for a line that is no batch, or does not go on where the cell's last one ended.
    """
    path = folder / PREDICTIONS_NAME
    classes = {cell.id: cell.spec.num_classes for cell in plan.cells}
    found: dict[str, list[Labels]] = {cell_id: [] for cell_id in classes}
    for number, line in enumerate(whole_lines(path) if path.exists() else [], start=1):
        try:
            batch = _BATCH.validate_json(line, strict=True)
        except ValidationError as error:
            raise RunFolderError(f"{path}, line {number}: {_first(error)}; {_REMEDY}") from None
        if wrong := _wrong(batch, classes, found.get(batch.cell_id, []), used):
            raise RunFolderError(f"{path}, line {number}: {wrong}; {_REMEDY}")
        found[batch.cell_id] += batch.classes
    return found


def _wrong(batch: PredictedBatch, classes: dict[str, int], before: Sequence[Labels], used: int) -> str:
    """Say why a line cannot follow what its cell said before; empty if it can."""
    if batch.cell_id not in classes:
        return f"cell {batch.cell_id} is not in the plan of {INFO_NAME}"
    if batch.first != len(before) or batch.first + len(batch.classes) > used:
        return f"images from {batch.first} on, where {len(before)} of {used} are predicted already"
    if any(not image or max(image) >= classes[batch.cell_id] for image in batch.classes):
        return f"a class that is not among the network's {classes[batch.cell_id]}"
    return ""


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where or 'content'}: {first['msg']}"
