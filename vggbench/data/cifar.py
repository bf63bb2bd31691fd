"""CIFAR-10 in the three layouts that it is found in: python, binary, PNG. No torch.

A. Krizhevsky, "Learning multiple layers of features from tiny images" (2009). The python and binary layouts are the
author's (32x32 pixels, all red ones first); in the PNG layout a file is a picture with an image a row, 1024 RGB pixels
wide, and the labels are a JSON list beside it. All three give the same arrays.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggbench.data.dataset import ContentHash, DataSet, Indices, Split
from vggbench.data.image_file import decode
from vggbench.data.plain_pickle import read_plain_pickle
from vggbench.data.transform import check_size, square
from vggbench.errors import DataError
from vggbench.models.preprocessing import CHANNELS, Preprocessing

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
PIXELS = SIDE * SIDE
VALUES = CHANNELS * PIXELS
FILES = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
# As they are unpacked from the author's archives; a folder that has one of them is taken for it.
INNER_FOLDERS = ("", "cifar-10-batches-py", "cifar-10-batches-bin")
SUFFIXES = ("", ".bin", ".png")
LABEL_FILES = ("{}_labels.json", "{}_lables.json")  # the second as it is published
LONGEST_QUOTE = 40  # characters of a wrong value

Batch = tuple[NDArray[np.uint8], list[Any]]  # (n, 32, 32, 3), and a label each


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the files are, and how they end."""

    folder: Path
    suffix: str

    def path(self, name: str) -> Path:
        """Return a batch's file."""
        return self.folder / f"{name}{self.suffix}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Cifar(DataSet):
    """Images that are all in memory.

    Attributes:
        values: uint8 `(N, 32, 32, 3)`.
    """

    values: NDArray[np.uint8]

    def pixels(self, indices: Indices) -> NDArray[np.uint8]:
        """Return a copy of those images."""
        return self.values[np.asarray(indices, dtype=np.int64)]

    def sized(self, indices: Indices, preprocessing: Preprocessing, input_size: int) -> NDArray[np.uint8]:
        """Resize and crop what is not as it should be already."""
        from PIL import Image

        found = self.pixels(indices)
        if {preprocessing.resize or SIDE, preprocessing.crop or SIDE} == {SIDE}:
            check_size(found.shape[1:3], preprocessing, input_size)
            return found
        return np.stack([square(Image.fromarray(image), preprocessing, input_size) for image in found])


def find_layout(where: Path) -> Layout | None:
    """Return the layout whose files are there, any of them; None if there is none."""
    for folder in INNER_FOLDERS:
        for suffix in SUFFIXES:
            layout = Layout(where / folder, suffix)
            if any(layout.path(name).is_file() for names in FILES.values() for name in names):
                return layout
    return None


def read_cifar(layout: Layout, split: Split) -> Cifar:
    """Read a split; `DataError` names the file that is missing, cut short, or not what it should be."""
    names = FILES[split]
    if missing := [layout.path(name).name for name in names if not layout.path(name).is_file()]:
        raise DataError(f"{layout.folder}: of CIFAR-10's {split} images there is no {', '.join(missing)}")
    if layout.suffix == ".png":
        values, labels = _read_png(layout, split)
    else:
        read: Callable[[Path], Batch] = _read_binary if layout.suffix else _read_python
        batches = [_checked(layout.path(name), read(layout.path(name))) for name in names]
        values = np.concatenate([batch for batch, _labels in batches])
        labels = np.concatenate([labels for _batch, labels in batches])
    digest = ContentHash(CLASSES)
    for label, image in zip(labels.tolist(), values, strict=True):
        digest.add(label, image)
    return Cifar(name=f"cifar-10/{split}", classes=CLASSES, labels=labels, sha256=digest.hexdigest(), values=values)


def _read_python(path: Path) -> Batch:
    content = read_plain_pickle(path)
    data, labels = content.get("data"), content.get("labels")
    if not isinstance(data, np.ndarray) or not isinstance(labels, list):
        raise DataError(f"{path} has no array 'data' and list 'labels'; it is no batch of CIFAR-10")
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != VALUES:
        shape = "x".join(map(str, data.shape))
        raise DataError(f"{path}: data is {shape} of {data.dtype}; a batch of CIFAR-10 has rows of {VALUES} bytes")
    return _pixels_last(data), labels


def _read_binary(path: Path) -> Batch:
    content = np.frombuffer(_read_bytes(path), dtype=np.uint8)
    record = 1 + VALUES
    if content.size % record:
        raise DataError(
            f"{path} has {content.size} bytes, no whole number of CIFAR-10's records of {record}: it was cut short, "
            "or is something else"
        )
    records = content.reshape(-1, record)
    return _pixels_last(records[:, 1:]), records[:, 0].tolist()


def _read_png(layout: Layout, split: Split) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the pictures, one below the other; the labels of all of them are in one file."""
    paths = [layout.path(name) for name in FILES[split]]
    pictures = [_read_picture(path) for path in paths]
    counts = ", ".join(f"{path.name} {len(picture)}" for path, picture in zip(paths, pictures, strict=True))
    labels_path, labels = _read_labels(layout.folder, split)
    values = np.concatenate(pictures)
    if len(values) != len(labels):
        raise DataError(f"{labels_path} has {len(labels)} labels; the pictures have {len(values)} rows ({counts})")
    return _checked(labels_path, (values, labels))


def _read_picture(path: Path) -> NDArray[np.uint8]:
    try:
        picture = np.asarray(decode(path))
    except DataError as error:
        raise DataError(f"{path} {error}") from None
    if picture.shape[1] != PIXELS:
        raise DataError(f"{path} is {picture.shape[1]} pixels wide; CIFAR-10 as PNG has an image of {PIXELS} a row")
    return picture.reshape(-1, SIDE, SIDE, CHANNELS)


def _read_labels(folder: Path, split: Split) -> tuple[Path, list[Any]]:
    names = [name.format(split) for name in LABEL_FILES]
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise DataError(f"{folder}: the labels of CIFAR-10's {split} images are missing: {' or '.join(names)}")
    try:
        labels = json.loads(_read_bytes(path))
    except (ValueError, RecursionError):
        raise DataError(f"{path} is not JSON; it should be a list of labels") from None
    if not isinstance(labels, list):
        raise DataError(f"{path} is no list of labels")
    return path, labels


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _pixels_last(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(rows.reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1))


def _checked(path: Path, batch: Batch) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images and labels, as many of each, every label one of the ten."""
    values, labels = batch
    if not labels:
        raise DataError(f"{path} has no images")
    if len(values) != len(labels):
        raise DataError(f"{path} has {len(values)} images and {len(labels)} labels")
    for place, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < len(CLASSES):
            shown = repr(label)[:LONGEST_QUOTE]
            raise DataError(f"{path}: label {place} is {shown}; CIFAR-10's are 0 to {len(CLASSES) - 1}")
    return values, np.array(labels, dtype=np.int64)
