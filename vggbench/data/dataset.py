"""Sets of labelled images: what one is, and how the one in a folder is told apart and opened.

numpy at module level, Pillow inside functions; no torch. Everything here happens before or between what is timed.
"""

from __future__ import annotations

import hashlib
import json
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vggbench.data.transform import normalised
from vggbench.errors import DataError
from vggbench.models.preprocessing import IMAGENET, Preprocessing

__all__ = ["IMAGENET", "ContentHash", "DataSet", "Indices", "Preprocessing", "Split", "open_dataset", "spread"]

Split = Literal["train", "test"]
Indices = Sequence[int] | NDArray[np.integer]
SCHEME = 1  # raised when the same images would get another hash


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSet(ABC):
    """Images with labels, in an order that is part of what they are.

    Attributes:
        name: for people and rows, with the split.
        classes: names by label.
        labels: int64 `(N,)`.
        sha256: over class names, and every image's size, label and pixels, in order: the same whatever files hold them.
        skipped: files that hold no image: (path below the folder, why).
    """

    name: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    sha256: str
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def pixels(self, indices: Indices) -> NDArray[np.uint8]:
        """Return images as they are, `(n, H, W, 3)`; `DataError` where they are not all of one size."""

    @abstractmethod
    def sized(self, indices: Indices, preprocessing: Preprocessing, input_size: int) -> NDArray[np.uint8]:
        """Return images resized and cropped, `(n, S, S, 3)`; `DataError` where another size than S comes out."""

    def batch(self, indices: Indices, preprocessing: Preprocessing, input_size: int) -> NDArray[np.float32]:
        """Return images as a network takes them, fp32 `(n, 3, S, S)`; errors as in `sized`."""
        return normalised(self.sized(indices, preprocessing, input_size), preprocessing)


def open_dataset(where: Path, split: Split) -> DataSet:
    """Open CIFAR-10 in any of its three layouts, or a folder of images with a sub-folder a class.

    Which of them it is, is told by the files that are there. All of it is read, so that what cannot be is known.
    Raises `DataError`: nothing that can be read, files missing, cut short or not what they should be.
    """
    from vggbench.data.cifar import find_layout, read_cifar
    from vggbench.data.image_folder import read_image_folder

    where = Path(where)
    try:
        if not where.is_dir():
            found = "is a file, not a folder" if where.exists() else "does not exist"
            raise DataError(f"data {str(where)!r} {found}; name a folder of images or of CIFAR-10's files")
        layout = find_layout(where)
    except OSError as error:
        raise DataError(f"data {str(where)!r} cannot be read: {error.strerror}") from None
    return read_cifar(layout, split) if layout else read_image_folder(where, split)


class ContentHash:
    """The SHA-256 of a set: class names, then label, height, width and RGB pixels of each image, in order."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._digest = hashlib.sha256(json.dumps({"scheme": SCHEME, "classes": list(classes)}).encode())

    def add(self, label: int, pixels: NDArray[np.uint8]) -> None:
        """Take the next image, `(H, W, 3)`."""
        self._digest.update(struct.pack("<3q", label, *pixels.shape[:2]))
        self._digest.update(np.ascontiguousarray(pixels).data)

    def hexdigest(self) -> str:
        """Return it over what was added so far."""
        return self._digest.hexdigest()


def spread(count: int, wanted: int) -> NDArray[np.int64]:
    """Return `wanted` indices of `count`, evenly over the whole: sorted sets lose no class to a limit."""
    if not 1 <= wanted <= count:
        raise DataError(f"{wanted} images asked for; the set has {count}")
    return np.arange(wanted, dtype=np.int64) * count // wanted
