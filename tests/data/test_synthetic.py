import numpy as np
import pytest

from vggbench.data.synthetic import images
from vggbench.errors import RequestError


@pytest.mark.parametrize("size", [7, 32, 224])
def test_images_are_normalised_over_the_set(size):
    found = images(4, size, seed=1)
    assert found.shape == (4, 3, size, size)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found.mean((0, 2, 3), dtype=np.float64), 0, atol=1e-5)
    np.testing.assert_allclose(found.std((0, 2, 3), dtype=np.float64), 1, atol=1e-5)


def test_the_seed_decides():
    assert np.array_equal(images(2, 16, seed=5), images(2, 16, seed=5))
    assert not np.array_equal(images(2, 16, seed=5), images(2, 16, seed=6))


def test_every_image_differs_from_every_other():
    found = images(8, 32, seed=0).reshape(8, -1)
    similar = np.corrcoef(found)[np.triu_indices(8, k=1)]
    assert np.abs(similar).max() < 0.9
    assert np.abs(found[:, None] - found[None]).max(-1)[np.triu_indices(8, k=1)].min() > 0.5


def test_amplitude_falls_as_one_over_frequency():
    size = 128
    power = np.abs(np.fft.rfft2(images(8, size, seed=2))) ** 2
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    inside = (frequency > 2 / size) & (frequency < 0.4)
    slope, _offset = np.polyfit(np.log(frequency[inside]), np.log(power.mean((0, 1))[inside]) / 2, 1)
    assert slope == pytest.approx(-1, abs=0.05)


def test_channels_resemble_each_other_as_a_photographs_do():
    flat = images(8, 64, seed=3).transpose(1, 0, 2, 3).reshape(3, -1)
    alike = np.corrcoef(flat)[np.triu_indices(3, k=1)]
    assert alike.min() > 0.6
    assert alike.max() < 0.95


def test_one_pixel_is_an_image():
    assert np.isfinite(images(1, 1, seed=0)).all()


@pytest.mark.parametrize(("count", "size"), [(0, 8), (2, 0)])
def test_no_images_are_refused(count, size):
    with pytest.raises(RequestError, match=f"{count} images of {size} pixels"):
        images(count, size, seed=0)
