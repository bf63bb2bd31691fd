"""Writes the same few images in every layout that data sets come in."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggbench.data.cifar import CLASSES, FILES

Batch = tuple[NDArray[np.uint8], list[int]]


def random_batch(count: int, seed: int) -> Batch:
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return values, generator.integers(0, len(CLASSES), count).tolist()


def write_python(folder: Path, batches: dict[str, Batch]) -> None:
    for name, (values, labels) in batches.items():
        content = {b"batch_label": b"some", b"labels": labels, b"data": planes(values), b"filenames": [b"a.png"]}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))


def write_binary(folder: Path, batches: dict[str, Batch]) -> None:
    for name, (values, labels) in batches.items():
        records = np.hstack([np.array(labels, dtype=np.uint8)[:, None], planes(values)])
        (folder / f"{name}.bin").write_bytes(records.tobytes())


def write_png(folder: Path, batches: dict[str, Batch]) -> None:
    for name, (values, _labels) in batches.items():
        Image.fromarray(values.reshape(len(values), 1024, 3)).save(folder / f"{name}.png")
    for split, names in FILES.items():
        labels = [label for name in names if name in batches for label in batches[name][1]]
        if labels:
            (folder / f"{split}_lables.json").write_text(json.dumps(labels))


def write_folders(folder: Path, images: dict[str, list[NDArray[np.uint8]]]) -> None:
    for name, found in images.items():
        (folder / name).mkdir(parents=True)
        for number, pixels in enumerate(found):
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def planes(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images as the author's layouts have them: all red values, all green ones, all blue ones."""
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2).reshape(len(values), -1))
