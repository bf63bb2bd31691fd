"""How the fixed images of the reference become batches: for verification, and for the timed ring. numpy only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_RING_BYTES = 256 * 2**20  # beyond the largest last-level caches in use, small beside the machine's memory
_RING_MOST = 8  # one batch an image at batch size 1
_RING_LEAST = 2  # never one hot buffer


def arrangements(images: int, batch_size: int, seed: int) -> list[NDArray[np.intp]]:
    """Return index arrays `(batch_size,)` in which every image occurs at least once, shuffled."""
    generator = np.random.default_rng(seed)
    batches = -(-images // batch_size)
    order = np.resize(np.arange(images), batches * batch_size)
    return list(generator.permutation(order).reshape(batches, batch_size))


def ring_order(inputs: NDArray[np.float32], batch_size: int, seed: int) -> list[NDArray[np.intp]]:
    """Return which images make each of the batches to rotate through while timing."""
    batch_bytes = inputs[0].nbytes * batch_size
    count = max(_RING_LEAST, min(_RING_MOST, _RING_BYTES // batch_bytes))
    return list(_orders(len(inputs), batch_size, seed, count))


def ring(inputs: NDArray[np.float32], order: Iterable[NDArray[np.intp]]) -> list[NDArray[np.float32]]:
    """Return the batches `(batch_size, 3, S, S)` of an order, each in memory of its own."""
    return [np.ascontiguousarray(inputs[indices]) for indices in order]


def variety(batches: Sequence[NDArray[np.float32]]) -> dict[str, int]:
    """Say how many batches there are, how many differ in a value, and how many places in memory they occupy."""
    return {
        "batches": len(batches),
        "different": len({hashlib.sha256(batch.tobytes()).digest() for batch in batches}),
        "buffers": len({batch.__array_interface__["data"][0] for batch in batches}),
    }


def _orders(images: int, batch_size: int, seed: int, count: int) -> Iterator[NDArray[np.intp]]:
    order: list[NDArray[np.intp]] = []
    while len(order) < count:
        order += arrangements(images, batch_size, seed + len(order))
    return iter(order[:count])
