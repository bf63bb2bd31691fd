"""From a data set to the batches of an epoch: order, augmentation, loading ahead. numpy only, no torch.

What an epoch's batch holds depends on the seed, the epoch and the batch's number alone, so that a training which goes
on in another process sees what it would have seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vggbench.train.recipe import ImagesTable

if TYPE_CHECKING:
    from vggbench.data.dataset import DataSet, Preprocessing

LOADED_AHEAD = 4  # batches: enough to bridge one slow image, few enough to hold
MIRRORED = 0.5  # of the training's inputs, where they are mirrored at all
_ORDER, _AUGMENTATION = 0, 1  # streams of random numbers that have nothing in common

Batch = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random windows and mirror images of prepared inputs.

    Attributes:
        padding: pixels put around an input before a window of its size is cut out.
        black: what a black pixel is in each channel once it is prepared: what the padding consists of.
    """

    padding: int
    flip: bool
    black: tuple[float, ...]

    def apply(self, inputs: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
        """Return `(N, 3, S, S)` changed, each by its own draw."""
        count, _, height, width = inputs.shape
        down, across = random.integers(0, 2 * self.padding + 1, size=(2, count)).tolist()
        mirrored = np.less(random.random(count), MIRRORED).tolist() if self.flip else [False] * count
        if self.padding:
            inputs = self._padded(inputs)
        changed = np.empty((count, inputs.shape[1], height, width), dtype=np.float32)
        for place, (y, x, mirror) in enumerate(zip(down, across, mirrored, strict=True)):
            window = inputs[place, :, y : y + height, x : x + width]
            changed[place] = window[..., ::-1] if mirror else window
        return changed

    def _padded(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        count, channels, height, width = inputs.shape
        shape = (count, channels, height + 2 * self.padding, width + 2 * self.padding)
        padded = np.empty(shape, dtype=np.float32)
        padded[:] = np.asarray(self.black, dtype=np.float32)[:, None, None]
        padded[:, :, self.padding : -self.padding, self.padding : -self.padding] = inputs
        return padded


def augmentation_of(images: ImagesTable) -> Augmentation | None:
    """Return what a recipe does to the training's inputs; None for nothing."""
    if not images.crop_padding and not images.flip:
        return None
    black = tuple(-mean / std for mean, std in zip(images.mean, images.std, strict=True))
    return Augmentation(images.crop_padding, images.flip, black)


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches of some of a data set's images.

    Attributes:
        indices: of the images in the data set.
        seed: of order and augmentation; None: in the order of `indices`, and as they are.
        least: a last batch of fewer images is left out of an epoch.
    """

    dataset: DataSet
    indices: NDArray[np.int64]
    preprocessing: Preprocessing
    input_size: int
    batch_size: int
    seed: int | None = None
    augmentation: Augmentation | None = None
    least: int = 1

    @property
    def count(self) -> int:
        """Batches in an epoch."""
        whole, left = divmod(len(self.indices), self.batch_size)
        return whole + (left >= self.least)

    def epoch(self, epoch: int, first: int = 0, *, loaders: int = 1) -> Iterator[Batch]:
        """Yield the epoch's batches from number `first` on, loaded by threads while others are worked on."""
        order = self._order(epoch)
        numbers = iter(range(first, self.count))
        waiting: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(loaders, thread_name_prefix="loader") as pool:
            try:
                for number in numbers:
                    waiting.append(pool.submit(self._batch, order, epoch, number))
                    if len(waiting) == LOADED_AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if self.seed is None:
            return self.indices
        return np.random.default_rng((self.seed, epoch, _ORDER)).permutation(self.indices)

    def _batch(self, order: NDArray[np.int64], epoch: int, number: int) -> Batch:
        chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
        inputs = self.dataset.batch(chosen, self.preprocessing, self.input_size)
        if self.augmentation is not None and self.seed is not None:
            random = np.random.default_rng((self.seed, epoch, _AUGMENTATION, number))
            inputs = self.augmentation.apply(inputs, random)
        return inputs, self.dataset.labels[chosen]


def split(count: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices to train on and those kept apart, each sorted: `round(count * share)` drawn by the seed."""
    apart = round(count * share)
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[apart:]), np.sort(order[:apart])
