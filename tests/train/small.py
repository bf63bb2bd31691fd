"""Small data sets and recipes that train in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vggbench.data.cifar import CLASSES, Cifar
from vggbench.data.dataset import DataSet
from vggbench.train.recipe import Recipe, checked_recipe
from vggbench.train.scores import EpochScore, Score

# Red, green and blue squares with noise, as the first three classes: what a network learns in a few steps.
COLOURS = 3


def colourful(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels `(count, 32, 32, 3)` and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, COLOURS, count)
    pixels = random.integers(0, 160, (count, 32, 32, 3))
    pixels[np.arange(count), :, :, labels] += 95
    return pixels.astype(np.uint8), labels.astype(np.int64)


def data_set(count: int = 24, seed: int = 0) -> Cifar:
    pixels, labels = colourful(count, seed)
    return Cifar(name="colours", classes=CLASSES, labels=labels, sha256=f"{seed:064x}", values=pixels)


def write_cifar(folder: Path, count: int = 8) -> Path:
    """Write CIFAR-10's binary layout: five batches of so many images, and as many to test on."""
    return write_batches(folder, [colourful(count, number) for number in range(6)])


def write_batches(folder: Path, batches: list[tuple[np.ndarray, np.ndarray]]) -> Path:
    """Write the binary layout: the images to test on, then five batches to train on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (pixels, labels) in enumerate(batches):
        values = pixels.transpose(0, 3, 1, 2).reshape(len(labels), -1)
        rows = np.concatenate([labels[:, None].astype(np.uint8), values], axis=1)
        name = f"data_batch_{number}.bin" if number else "test_batch.bin"
        (folder / name).write_bytes(rows.tobytes())
    return folder


def recipe_data(**changes: Any) -> dict[str, Any]:
    """Return a recipe of two epochs on a network of 1,000 weights as plain data, with whole tables replaced."""
    data: dict[str, Any] = {
        "reproduces": "nothing",
        "source": "none",
        "epochs": 2,
        "seed": 5,
        "network": {
            "config": "4,M,8,M",
            "batch_norm": True,
            "head": "flatten",
            "input_size": 32,
            "classifier_width": 8,
            "dropout": 0.2,
        },
        "images": {"crop_padding": 2, "flip": True, "validation_share": 0.25},
        "optimizer": {"batch_size": 8, "learning_rate": 0.05, "weight_decay": 1e-3, "decay": "decoupled"},
        "schedule": {"kind": "one-cycle", "warmup": 0.3, "stepped": "batch"},
    }
    return data | changes


def recipe(**changes: Any) -> Recipe:
    return checked_recipe(recipe_data(**changes), "small")


class Listener:
    """Remembers what it was told, and does something at a batch."""

    def __init__(self, at: tuple[int, int] | None = None, act: Any = None) -> None:
        self.rows: list[EpochScore] = []
        self.batches: list[tuple[int, int]] = []
        self.opened_names: list[str] = []
        self._at, self._act = at, act

    def opened(self, images: DataSet) -> None:
        self.opened_names.append(images.name)

    def learned(self, epoch: int, done: int, total: int, score: Score) -> None:
        self.batches.append((epoch, done))
        if (epoch, done) == self._at:
            self._act()

    def finished(self, row: EpochScore, epochs: int) -> None:
        self.rows.append(row)
