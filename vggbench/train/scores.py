"""What an epoch and a whole training came to, as plain values; the CSV of the epochs. The standard library only."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Score:
    """How a network did on some images.

    Attributes:
        loss_sum: cross-entropy, summed over the images.
        correct: images whose class was the network's first choice.
    """

    loss_sum: float = 0.0
    correct: int = 0
    images: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(self.loss_sum + other.loss_sum, self.correct + other.correct, self.images + other.images)

    @property
    def loss(self) -> float:
        """Of an image, in the mean."""
        return self.loss_sum / self.images

    @property
    def accuracy(self) -> float:
        """From 0 to 1."""
        return self.correct / self.images


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochScore:
    """A row of `history.csv`; validation is None where no image was kept apart.

    Attributes:
        epoch: from 1.
        learning_rate: of the last batch.
        train_loss: in the mean over the epoch, of inputs as they were augmented and with label smoothing, while the
            network learned: not the loss of the network that the epoch ended with.
        wall_s: seconds that the epoch took, its validation included, in every process that saved its part of it.
        cpu_s: CPU seconds of all threads likewise.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    wall_s: float
    cpu_s: float

    def to_json(self) -> dict[str, Any]:
        """Return plain data that the constructor takes."""
        return asdict(self)


COLUMNS = tuple(field.name for field in fields(EpochScore))


def history_csv(history: Sequence[EpochScore]) -> str:
    """Return the table of the epochs, a line each; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in history:
        writer.writerow(["" if value is None else _number(value) for value in row.to_json().values()])
    return text.getvalue()


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
