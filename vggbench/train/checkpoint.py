"""The file that a training goes on from: whole or not there, and of the very training that is to go on.

Imports torch inside its functions. Nothing in a checkpoint is executed when it is read.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from pydantic import TypeAdapter, ValidationError

from vggbench.errors import RunFolderError
from vggbench.models.weights_file import DAMAGED
from vggbench.results.run_folder import write_whole
from vggbench.train.recipe import Recipe
from vggbench.train.scores import EpochScore, Score

CHECKPOINT = "checkpoint.pt"
SCHEMA = 1  # raised when an older vggbench would misread the file
_REMEDY = "start again with another --output"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingInfo:
    """What is trained on what: it stays the same from start to end, but for the epochs.

    Attributes:
        recipe_name: as it was asked for, without a folder.
        spec: `ModelSpec.to_json` of the network.
        init: `Start.text`.
        data: name of the training images' set.
        data_sha256: of all of them; `test_sha256` likewise of the test images, empty where there are none apart.
        images: that are trained on.
        threads: of torch; with another number, sums come out otherwise in the last bits.
        torch: its version; likewise.
    """

    recipe_name: str
    recipe: Recipe
    spec: dict[str, Any]
    init: str
    data: str
    data_sha256: str
    test_sha256: str
    classes: tuple[str, ...]
    images: int
    validation_images: int
    device: str
    threads: int
    torch: str
    vggbench: str
    started_at: str

    @property
    def input_size(self) -> int:
        """Side of the network's input in pixels."""
        return int(self.spec["input_size"])

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self) | {"recipe": self.recipe.model_dump(mode="json")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a training is.

    Attributes:
        epoch: epochs that are finished.
        batch: batches of the next one that are, and `score` what they came to.
        wall_s, cpu_s: seconds since the last finished epoch, in all processes up to here.
        all_wall_s, all_cpu_s: likewise since the start, everything included.
    """

    epoch: int = 0
    batch: int = 0
    score: Score = field(default_factory=Score)
    wall_s: float = 0.0
    cpu_s: float = 0.0
    all_wall_s: float = 0.0
    all_cpu_s: float = 0.0
    history: tuple[EpochScore, ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All of it; `trainer` is `Trainer.state_dict`."""

    info: TrainingInfo
    position: Position
    trainer: dict[str, Any]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the folder's checkpoint; `RunFolderError` where that cannot be done, and the former one stays."""
    import torch

    content = {
        "schema": SCHEMA,
        "info": checkpoint.info.to_json(),
        "position": asdict(checkpoint.position),
        "trainer": checkpoint.trainer,
    }
    write_whole(folder / CHECKPOINT, lambda file: _save(torch.save, content, file))


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read the folder's checkpoint; `RunFolderError` says why it cannot be gone on from."""
    import torch

    path = folder / CHECKPOINT
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd about a file is announced before it is refused for it
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunFolderError(f"{folder} holds no training to go on with: {CHECKPOINT} is missing") from None
    except (pickle.UnpicklingError, *DAMAGED) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise RunFolderError(f"{path} cannot be read: {reason}; {_REMEDY}") from None
    found = content.get("schema") if isinstance(content, dict) else None
    if found != SCHEMA:
        raise RunFolderError(f"{path} has schema {found!r}, this vggbench reads {SCHEMA}; {_REMEDY}")
    return _checked(content, path)


def _checked(content: dict[str, Any], path: Path) -> Checkpoint:
    try:
        info = TypeAdapter(TrainingInfo).validate_python(content["info"])
        position = TypeAdapter(Position).validate_python(content["position"])
        checkpoint = Checkpoint(info, position, dict(content["trainer"]))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RunFolderError(f"{path}: {where}: {first['msg']}; {_REMEDY}") from None
    except (KeyError, TypeError, ValueError):
        raise RunFolderError(f"{path} is no checkpoint of a training; {_REMEDY}") from None
    if info.threads < 1 or position.batch < 0 or not len(position.history) == position.epoch <= info.recipe.epochs:
        raise RunFolderError(f"{path} contradicts itself: it was edited; {_REMEDY}")
    return checkpoint


class _Watched:
    """A file that remembers why it could not be written: torch says only that something went wrong."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _save(save: Callable[[object, Any], None], content: object, file: IO[bytes]) -> None:
    watched = _Watched(file)
    try:
        save(content, watched)
    except RuntimeError:
        if watched.error is not None:
            raise watched.error from None
        raise
