"""Photographs in a folder: a sub-folder a class, below `train` and `test` where those are there. No torch.

The order is torchvision's: classes by name, each one's files by path. Every file is decoded once when the folder is
opened; one that is no image is named with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vggbench.data.dataset import ContentHash, DataSet, Indices, Split
from vggbench.data.image_file import decode, read_image, what_it_is_not
from vggbench.data.transform import square
from vggbench.errors import DataError
from vggbench.models.preprocessing import Preprocessing

SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val")}  # the second as ImageNet has it
LEAST_CLASSES = 2
READERS = 8  # threads that decode while others wait for the disk; Pillow decodes without holding Python's lock
AT_ONCE = 64  # images in memory, of any size
NAMED = 3  # files named in an error; all of them are in `skipped`


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageFolder(DataSet):
    """Images that stay in their files and are decoded when they are asked for.

    Attributes:
        paths: of the images, by index.
    """

    paths: tuple[Path, ...]

    def pixels(self, indices: Indices) -> NDArray[np.uint8]:
        """Decode images that have one size."""
        found = [np.asarray(read_image(self.paths[index])) for index in indices]
        if len(sizes := sorted({f"{image.shape[1]}x{image.shape[0]}" for image in found})) > 1:
            raise DataError(f"images of {self.name} have different sizes ({', '.join(sizes[:NAMED])}); resize them")
        return np.stack(found)

    def sized(self, indices: Indices, preprocessing: Preprocessing, input_size: int) -> NDArray[np.uint8]:
        """Decode, resize and crop."""
        return np.stack([square(read_image(self.paths[index]), preprocessing, input_size) for index in indices])


def read_image_folder(where: Path, split: Split) -> ImageFolder:
    """Open the folder; `DataError` where it is not laid out so, a class has no image, or there are not two classes."""
    try:
        root = _split_folder(where, split)
        folders = _class_folders(root)
        files = [(label, path) for label, folder in enumerate(folders) for path in _files(folder)]
        loose = [path for path in sorted(root.iterdir()) if path not in folders]
    except OSError as error:
        raise DataError(f"data {str(where)!r}: {error.filename} cannot be read: {error.strerror}") from None
    classes = tuple(folder.name for folder in folders)
    skipped = [(str(path.relative_to(root)), "lies in no class's folder") for path in loose]
    digest, kept = ContentHash(classes), []
    for label, path, found in _decoded(files):
        if isinstance(found, str):
            skipped.append((str(path.relative_to(root)), found))
        else:
            digest.add(label, found)
            kept.append((label, path))
    labels = np.array([label for label, _path in kept], dtype=np.int64)
    _refuse_empty_classes(root, classes, labels, skipped)
    return ImageFolder(
        name=_name(where, root),
        classes=classes,
        labels=labels,
        sha256=digest.hexdigest(),
        skipped=tuple(skipped),
        paths=tuple(path for _label, path in kept),
    )


def _split_folder(where: Path, split: Split) -> Path:
    """Return where the class folders are: in the split's folder, or, where no split has one, in the folder itself."""
    for name in SPLIT_FOLDERS[split]:
        if (where / name).is_dir():
            return where / name
    others = [name for names in SPLIT_FOLDERS.values() for name in names if (where / name).is_dir()]
    if others:
        wanted = " or ".join(SPLIT_FOLDERS[split])
        raise DataError(f"data {str(where)!r} has a folder {others[0]!r} and none for the {split} images: {wanted}")
    return where


def _class_folders(root: Path) -> list[Path]:
    entries = sorted(root.iterdir())
    folders = [path for path in entries if path.is_dir() and not path.name.startswith(".")]
    if not entries:
        raise DataError(f"data {str(root)!r} is empty; it should have a folder of images for each class")
    if not folders:
        raise DataError(
            f"data {str(root)!r} has {len(entries)} files and no folder; it should have a folder of images for each "
            "class, or CIFAR-10's files"
        )
    if len(folders) < LEAST_CLASSES:
        raise DataError(f"data {str(root)!r} has one class, {folders[0].name!r}; it takes two to tell apart")
    return folders


def _files(folder: Path) -> Iterator[Path]:
    """Yield everything in a class's folder that is no folder, sorted, also from folders in it.

    `DataError` where a link leads to a folder that was read already: its images would count again, without an end.
    """
    read: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        if (real := os.path.realpath(place)) in read:
            raise DataError(f"{place} leads by a link to {real}, whose images are read already; remove the link")
        read.add(real)
        folders.sort()
        yield from (Path(place) / name for name in sorted(names))


def _raise(error: OSError) -> None:
    raise error


def _decoded(files: list[tuple[int, Path]]) -> Iterator[tuple[int, Path, NDArray[np.uint8] | str]]:
    """Yield each file's label, path, and pixels or the reason why it has none, in order."""
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(files), AT_ONCE):
            some = files[start : start + AT_ONCE]
            paths = [path for _label, path in some]
            for (label, path), found in zip(some, pool.map(_attempt, paths), strict=True):
                yield label, path, found


def _attempt(path: Path) -> NDArray[np.uint8] | str:
    try:
        return what_it_is_not(path) or np.asarray(decode(path))
    except DataError as error:
        return str(error)


def _refuse_empty_classes(
    root: Path, classes: tuple[str, ...], labels: NDArray[np.int64], skipped: list[tuple[str, str]]
) -> None:
    """A class without images would be an accuracy of 0 of 0, and nobody would see that its files are damaged."""
    counts = np.bincount(labels, minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if not count]
    if not empty:
        return
    of_them = [(path, reason) for path, reason in skipped if Path(path).parts[0] == empty[0]]
    why = "; ".join(f"{path} {reason}" for path, reason in of_them[:NAMED]) or "it has no files"
    raise DataError(f"data {str(root)!r}: class {empty[0]!r} has no image that can be read: {why}")


def _name(where: Path, root: Path) -> str:
    whole = where.resolve().name
    return whole if root == where else f"{whole}/{root.name}"
