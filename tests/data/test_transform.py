"""torchvision's transforms, held against torchvision."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vggbench.data.transform import cut_out, normalised, square
from vggbench.errors import DataError, RequestError
from vggbench.models.preprocessing import IMAGENET, Preprocessing

SIZES = [(32, 32), (40, 31), (31, 40), (300, 301), (257, 400), (224, 224), (500, 333), (1, 9)]


def photo(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def theirs(preprocessing: Preprocessing):
    from torchvision import transforms

    steps: list[object] = []
    if preprocessing.resize is not None:
        steps.append(transforms.Resize(preprocessing.resize))
    if preprocessing.crop is not None:
        steps.append(transforms.CenterCrop(preprocessing.crop))
    normalize = transforms.Normalize(preprocessing.mean, preprocessing.std)
    return transforms.Compose([*steps, transforms.ToTensor(), normalize])


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize(
    "preprocessing",
    [
        IMAGENET,
        Preprocessing(resize=32),
        Preprocessing(crop=28),
        Preprocessing(crop=41),
        Preprocessing(resize=9, crop=20),
    ],
    ids=lambda preprocessing: preprocessing.text,
)
def test_it_is_torchvisions_to_the_bit(preprocessing: Preprocessing, size: tuple[int, int]):
    image = photo(*size)
    ours = normalised(np.asarray(cut_out(image, preprocessing))[None], preprocessing)[0]
    assert np.array_equal(ours, theirs(preprocessing)(image).numpy())


def test_it_is_what_published_weights_are_evaluated_with():
    from torchvision.models import VGG16_BN_Weights

    image = photo(333, 280)
    ours = normalised(square(image, IMAGENET, 224)[None], IMAGENET)[0]
    assert np.array_equal(ours, VGG16_BN_Weights.IMAGENET1K_V1.transforms()(image).numpy())


def test_values_can_stay_as_they_are():
    pixels = np.asarray(photo(4, 4))
    unscaled = Preprocessing(scale="0-255", mean=(1, 2, 3), std=(2, 2, 2))
    assert np.array_equal(normalised(pixels[None], unscaled)[0, 2], (pixels[..., 2].astype(np.float32) - 3) / 2)


def test_another_size_than_the_networks_is_said():
    with pytest.raises(DataError, match=r"come out 40x31 pixels large .*the network takes 32x32"):
        square(photo(40, 31), Preprocessing(), 32)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"resize": 0}, "resize is 0; it must be from 1 to 8192"),
        ({"crop": 9000}, "crop is 9000"),
        ({"mean": (0.5,)}, r"mean is \[0.5\]; it has a number for red, green and blue"),
        ({"mean": (0.5, 0.5, float("nan"))}, "mean is"),
        ({"std": (1.0, 0.0, 1.0)}, "above 0"),
        ({"scale": "0-2"}, "scale is '0-2'; it can be 0-1 or 0-255"),
    ],
)
def test_wrong_steps_are_refused(changes, said: str):
    with pytest.raises(RequestError, match=said):
        Preprocessing(**changes)


def test_it_survives_json():
    import json

    for one in (IMAGENET, Preprocessing(resize=None, crop=3, scale="0-255")):
        assert Preprocessing.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize(
    "data", [None, [], {}, IMAGENET.to_json() | {"resize": "256"}, IMAGENET.to_json() | {"more": 1}, {"mean": []}]
)
def test_json_of_something_else_is_refused(data):
    with pytest.raises(RequestError, match="preprocessing"):
        Preprocessing.from_json(data)
