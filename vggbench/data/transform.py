"""torchvision's transforms for classification, step by step on Pillow's images and numpy's arrays. No torch.

Resize, CenterCrop, ToTensor and Normalize as torchvision does them to a Pillow image, to the bit: the sizes are its
`_compute_resized_output_size`, the place of the crop its `center_crop`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vggbench.errors import DataError
from vggbench.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST_VALUE = 255  # of a colour, in 8 bits


def cut_out(image: Image, preprocessing: Preprocessing) -> Image:
    """Return an RGB image resized and cropped."""
    if preprocessing.resize is not None:
        image = _resized(image, preprocessing.resize)
    return image if preprocessing.crop is None else _cropped(image, preprocessing.crop)


def square(image: Image, preprocessing: Preprocessing, input_size: int) -> NDArray[np.uint8]:
    """Return an RGB image as the network's pixels `(input_size, input_size, 3)`; `DataError` if it has other ones."""
    pixels = np.asarray(cut_out(image, preprocessing))
    check_size(pixels.shape[:2], preprocessing, input_size)
    return pixels


def check_size(shape: tuple[int, ...], preprocessing: Preprocessing, input_size: int) -> None:
    """Raise `DataError` where prepared images of that height and width do not fit the network's input."""
    if shape != (input_size, input_size):
        raise DataError(
            f"images come out {shape[1]}x{shape[0]} pixels large from their preprocessing ({preprocessing.text}), and "
            f"the network takes {input_size}x{input_size}; give --resize {input_size}, or the network that --input-size"
        )


def normalised(pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return pixels `(N, H, W, 3)` as a network's input `(N, 3, H, W)` in fp32: scaled, less the mean, over the std."""
    values = pixels.astype(np.float32)
    if preprocessing.scale == "0-1":
        values /= LARGEST_VALUE
    values -= np.array(preprocessing.mean, dtype=np.float32)
    values /= np.array(preprocessing.std, dtype=np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def _resized(image: Image, side: int) -> Image:
    from PIL.Image import Resampling

    width, height = image.size
    longer = int(side * max(width, height) / min(width, height))
    size = (side, longer) if width <= height else (longer, side)
    return image if size == image.size else image.resize(size, Resampling.BILINEAR)


def _cropped(image: Image, side: int) -> Image:
    left, top = (_start(length, side) for length in image.size)
    return image.crop((left, top, left + side, top + side))  # what lies outside is black


def _start(length: int, side: int) -> int:
    return -((side - length) // 2) if side > length else round((length - side) / 2)
