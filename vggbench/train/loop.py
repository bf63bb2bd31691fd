"""The one loop: epochs of batches from where a training stands to its last epoch, saved after each.

Imports no torch itself. Knows no command line.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from vggbench.errors import Interrupted, TrainingError
from vggbench.train.batches import Batches
from vggbench.train.checkpoint import Position
from vggbench.train.scores import EpochScore, Score
from vggbench.train.stopping import StopRequest, stop_requests
from vggbench.train.trainer import Trainer

if TYPE_CHECKING:
    from vggbench.data.dataset import DataSet


class Observer(Protocol):
    """Is told how a training gets on."""

    def opened(self, images: DataSet) -> None:
        """The images to train on, or those to test on, were opened."""
        ...

    def learned(self, epoch: int, done: int, total: int, score: Score) -> None:
        """A batch of an epoch, counted from 1, was learned; the score is of the epoch so far."""
        ...

    def finished(self, row: EpochScore, epochs: int) -> None:
        """An epoch is over."""
        ...


class Stopwatch:
    """Wall and CPU seconds of this process on top of those of the ones before it."""

    def __init__(self, position: Position, *, whole_process: bool) -> None:
        """Count from here on; in a process that is there for the training alone, its CPU seconds from its start."""
        self._position = position
        self._wall = self._all_wall = time.monotonic()
        self._cpu = time.process_time()
        self._all_cpu = 0.0 if whole_process else self._cpu

    def epoch_done(self) -> None:
        """Begin an epoch's seconds again."""
        self._wall, self._cpu = time.monotonic(), time.process_time()
        self._position = replace(self._position, wall_s=0.0, cpu_s=0.0)

    def read(self, position: Position) -> Position:
        """Return the position with the seconds up to now."""
        before, wall, cpu = self._position, time.monotonic(), time.process_time()
        return replace(
            position,
            wall_s=before.wall_s + wall - self._wall,
            cpu_s=before.cpu_s + cpu - self._cpu,
            all_wall_s=before.all_wall_s + wall - self._all_wall,
            all_cpu_s=before.all_cpu_s + cpu - self._all_cpu,
        )


@dataclass(frozen=True, slots=True)
class Loop:
    """What the epochs are made of.

    Attributes:
        validation: None where no images are kept apart.
        save: keeps a position with the trainer's state as it is then.
        loaders: threads that prepare batches.
    """

    trainer: Trainer
    training: Batches
    validation: Batches | None
    epochs: int
    loaders: int
    save: Callable[[Position], None]
    observer: Observer

    def run(self, position: Position, *, whole_process: bool = False) -> Position:
        """Train up to the last epoch and return where that is.

        Raises:
            Interrupted: a signal asked for an end; the position is saved, in the middle of an epoch too.
            TrainingError: the loss is not a number; the last epoch's end is what stays saved.
        """
        watch = Stopwatch(position, whole_process=whole_process)
        with stop_requests() as stop:
            while position.epoch < self.epochs:
                position = self._epoch(position, watch, stop)
                self.save(position)
        return position

    def _epoch(self, position: Position, watch: Stopwatch, stop: StopRequest) -> Position:
        position = self._learn(position, watch, stop)
        row = self._row(position, watch)
        self.trainer.schedule.epoch_ends({"train_loss": row.train_loss, "validation_loss": row.validation_loss})
        watch.epoch_done()
        self.observer.finished(row, self.epochs)
        history = (*position.history, row)
        return watch.read(replace(position, epoch=position.epoch + 1, batch=0, score=Score(), history=history))

    def _row(self, position: Position, watch: Stopwatch) -> EpochScore:
        """Validate, and return what the epoch came to."""
        kept_apart = None if self.validation is None else self.trainer.evaluate(self.validation.epoch(position.epoch))
        timed = watch.read(position)
        return EpochScore(
            epoch=position.epoch + 1,
            learning_rate=self.trainer.rate_used,
            train_loss=position.score.loss,
            train_accuracy=position.score.accuracy,
            validation_loss=None if kept_apart is None else kept_apart.loss,
            validation_accuracy=None if kept_apart is None else kept_apart.accuracy,
            wall_s=timed.wall_s,
            cpu_s=timed.cpu_s,
        )

    def _learn(self, position: Position, watch: Stopwatch, stop: StopRequest) -> Position:
        """Return the position after the epoch's last batch."""
        total = self.training.count
        for batch in self.training.epoch(position.epoch, position.batch, loaders=self.loaders):
            self._check(stop, position, watch)
            if position.batch == 0:  # after the check: what is saved there has not begun the epoch
                self.trainer.schedule.epoch_starts()
            try:
                score = self.trainer.learn(batch)
            except TrainingError as error:
                where = f"epoch {position.epoch + 1}, batch {position.batch + 1} of {total}"
                raise TrainingError(f"{error} ({where}): train with a lower --learning-rate") from None
            self.trainer.schedule.batch_done()
            position = replace(position, batch=position.batch + 1, score=position.score + score)
            self.observer.learned(position.epoch + 1, position.batch, total, position.score)
        self._check(stop, position, watch)
        return position

    def _check(self, stop: StopRequest, position: Position, watch: Stopwatch) -> None:
        if stop.asked:
            self.save(watch.read(position))
            where = f"in epoch {position.epoch + 1} after batch {position.batch} of {self.training.count}"
            raise Interrupted(f"interrupted {where}; --resume goes on from there")
