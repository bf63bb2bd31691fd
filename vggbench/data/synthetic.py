"""Seeded images that look like photographs to a convolution: their amplitude falls as 1 / frequency.

numpy only. White noise averages to nothing in the first pool; a photograph does not (Field, "Relations between the
statistics of natural images and the response properties of cortical cells", J. Opt. Soc. Am. A 4, 1987).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vggbench.errors import RequestError

CHANNELS = 3
COLOUR = 0.5  # of each channel's own pattern beside the one all share: photographs' channels correlate at about 0.8


def images(count: int, input_size: int, seed: int) -> NDArray[np.float32]:
    """Return `count` different images `(count, 3, input_size, input_size)` in fp32.

    Each channel has mean 0 and standard deviation 1 over the whole set, as after the usual normalisation.
    """
    if count < 1 or input_size < 1:
        raise RequestError(f"{count} images of {input_size} pixels asked for; both must be at least 1")
    generator = np.random.default_rng(seed)
    amplitude = _amplitude(input_size)
    grey = _fields(generator, (count, 1), amplitude)
    colour = _fields(generator, (count, CHANNELS), amplitude)
    return _normalised(grey + COLOUR * colour).astype(np.float32)


def _amplitude(size: int) -> NDArray[np.float64]:
    """Return 1 / frequency over the half plane that `rfft2` uses; the mean's own place gets the lowest frequency's."""
    down, across = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    frequency: NDArray[np.float64] = np.hypot(down, across)
    return 1.0 / np.maximum(frequency, 1.0 / size)


def _fields(
    generator: np.random.Generator, shape: tuple[int, int], amplitude: NDArray[np.float64]
) -> NDArray[np.float64]:
    size = amplitude.shape[0]
    noise = generator.standard_normal((*shape, size, size))
    return np.fft.irfft2(np.fft.rfft2(noise) * amplitude, s=(size, size))


def _normalised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    over = (0, 2, 3)
    centred = values - values.mean(axis=over, keepdims=True)
    spread = centred.std(axis=over, keepdims=True)
    scaled: NDArray[np.float64] = centred / np.where(spread > 0, spread, 1.0)  # one image of one pixel has none
    return scaled
