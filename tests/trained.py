"""The committed checkpoint and 500 real images for tests: where they are, and how commands name that network.

The images are rows 0, 20, 40, ... 9980 of CIFAR-10's 10,000 test images, in the PNG layout, with their labels.
"""

from __future__ import annotations

from pathlib import Path

from tests.train.small import write_batches
from vggbench.data.dataset import open_dataset
from vggbench.models.spec import ModelSpec, make_spec

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "checkpoints" / "narrow-bn"
WEIGHTS = CHECKPOINT / "model.safetensors"
TRAINING = CHECKPOINT / "training.json"
OPTIONS = ("--weights", str(WEIGHTS))  # it says itself which network it is for
IMAGES = ROOT / "tests" / "assets" / "cifar10-500"  # `open_dataset(IMAGES, "test")`
IMAGES_SHA256 = "1239347f6524635d4dca2843f763f72501bd090593d8971afff28c1ec2e59237"


TRAIN_IMAGES = 350  # of the 500, where some are to be trained on or to calibrate with


def write_real_data(folder: Path) -> Path:
    """Write the 500 images as a data set of both splits, in the binary layout: the first 350 to train on."""
    images = open_dataset(IMAGES, "test")
    pixels = images.pixels(range(len(images)))
    batch = TRAIN_IMAGES // 5
    ranges = [(TRAIN_IMAGES, len(images)), *((start, start + batch) for start in range(0, TRAIN_IMAGES, batch))]
    return write_batches(folder, [(pixels[first:end], images.labels[first:end]) for first, end in ranges])


def trained_spec() -> ModelSpec:
    """Return the spec of the network with the committed weights."""
    return make_spec(weights=str(WEIGHTS))
