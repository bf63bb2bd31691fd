"""What an epoch's batches hold: order, windows, mirror images; the same in whatever process."""

import numpy as np
import pytest

from tests.train.small import data_set
from vggbench.errors import DataError
from vggbench.models.preprocessing import Preprocessing
from vggbench.train.batches import Augmentation, Batches, augmentation_of, split
from vggbench.train.recipe import ImagesTable

PLAIN = Preprocessing()


def batches(count=10, **changes):
    made = data_set(count)
    given = {"batch_size": 4, "seed": 1} | changes
    return Batches(made, np.arange(count), PLAIN, 32, **given)


def labels(epoch):
    return [batch_labels.tolist() for _inputs, batch_labels in epoch]


def test_every_image_comes_once_an_epoch_in_an_order_of_its_own():
    made = batches(count=10)
    found = [np.concatenate([inputs.sum(axis=(1, 2, 3)) for inputs, _ in made.epoch(epoch)]) for epoch in range(2)]
    assert np.allclose(np.sort(found[0]), np.sort(found[1]))
    assert not np.array_equal(found[0], found[1])
    assert made.count == 3
    assert [len(inputs) for inputs, _ in made.epoch(0)] == [4, 4, 2]


def test_an_epoch_goes_on_from_any_batch_as_it_was():
    made = batches(augmentation=Augmentation(2, True, (0.0, 0.0, 0.0)))
    whole = list(made.epoch(3))
    rest = list(made.epoch(3, 1, loaders=3))
    assert len(rest) == 2
    for (inputs, target), (again, target_again) in zip(whole[1:], rest, strict=True):
        assert np.array_equal(inputs, again)
        assert np.array_equal(target, target_again)
    assert list(made.epoch(3, 3)) == []


def test_without_a_seed_images_come_in_order_and_as_they_are():
    made = batches(seed=None, augmentation=Augmentation(2, True, (0.0, 0.0, 0.0)))
    assert np.concatenate(labels(made.epoch(0))).tolist() == made.dataset.labels.tolist()
    first = next(iter(made.epoch(0)))[0]
    assert np.array_equal(first, made.dataset.batch(np.arange(4), PLAIN, 32))


def test_a_last_batch_of_too_few_images_is_left_out():
    assert batches(count=9).count == 3
    assert batches(count=9, least=2).count == 2
    assert [len(target) for target in labels(batches(count=9, least=2).epoch(0))] == [4, 4]


def test_what_goes_wrong_in_a_loader_is_raised():
    made = Batches(data_set(4), np.arange(4), Preprocessing(resize=16), 32, 2)
    with pytest.raises(DataError, match="16x16"):
        list(made.epoch(0))


def test_a_window_is_one_of_the_padded_image():
    inputs = np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4) + 1
    black = (-1.0, -2.0, -3.0)
    augmentation = Augmentation(1, False, black)
    for seed in range(20):
        changed = augmentation.apply(inputs, np.random.default_rng(seed))
        for image, window in zip(inputs, changed, strict=True):
            padded = np.stack([np.pad(image[c], 1, constant_values=black[c]) for c in range(3)])
            windows = [padded[:, y : y + 4, x : x + 4] for y in range(3) for x in range(3)]
            assert any(np.array_equal(window, other) for other in windows)


def test_every_window_comes_up():
    image = np.zeros((1, 3, 5, 5), dtype=np.float32)
    image[0, 0, 2, 2] = 1
    augmentation = Augmentation(1, False, (0.0, 0.0, 0.0))
    seen = {tuple(np.argwhere(augmentation.apply(image, np.random.default_rng(seed))[0, 0])[0]) for seed in range(200)}
    assert seen == {(y, x) for y in (1, 2, 3) for x in (1, 2, 3)}


def test_half_of_the_images_are_mirrored():
    inputs = np.tile(np.arange(4, dtype=np.float32), (1000, 3, 4, 1))
    changed = Augmentation(0, True, (0.0, 0.0, 0.0)).apply(inputs, np.random.default_rng(0))
    mirrored = (changed == inputs[..., ::-1]).all(axis=(1, 2, 3))
    assert ((changed == inputs).all(axis=(1, 2, 3)) ^ mirrored).all()
    assert 430 < mirrored.sum() < 570  # five standard deviations around 500


def test_the_padding_is_what_a_black_pixel_becomes():
    images = ImagesTable(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0), crop_padding=1)
    augmentation = augmentation_of(images)
    assert augmentation is not None
    black = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    prepared = type(data_set())(name="b", classes=("a",), labels=np.zeros(1, np.int64), sha256="", values=black).batch(
        [0], images.preprocessing(32), 32
    )
    assert tuple(prepared[0, :, 0, 0]) == augmentation.black
    assert augmentation_of(ImagesTable()) is None


def test_a_split_is_drawn_by_its_own_seed():
    train, apart = split(100, 0.2, seed=42)
    assert (len(train), len(apart)) == (80, 20)
    assert sorted([*train, *apart]) == list(range(100))
    assert np.array_equal(split(100, 0.2, seed=42)[1], apart)
    assert not np.array_equal(split(100, 0.2, seed=43)[1], apart)
    assert not np.array_equal(apart, np.arange(20))
    assert [len(part) for part in split(7, 0.0, seed=1)] == [7, 0]
