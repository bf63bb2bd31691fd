"""The committed checkpoint and 500 real images for tests: where they are, and how commands name that network.

The images are rows 0, 20, 40, ... 9980 of CIFAR-10's 10,000 test images, in the PNG layout, with their labels.
"""

from __future__ import annotations

from pathlib import Path

from vggbench.models.spec import ModelSpec, make_spec

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "checkpoints" / "narrow-bn"
WEIGHTS = CHECKPOINT / "model.safetensors"
TRAINING = CHECKPOINT / "training.json"
IMAGES = ROOT / "tests" / "assets" / "cifar10-500"  # `open_dataset(IMAGES, "test")`
IMAGES_SHA256 = "1239347f6524635d4dca2843f763f72501bd090593d8971afff28c1ec2e59237"

CONFIG = "32,M,64,64,M,128,128,M,256,256,M"
INPUT_SIZE, NUM_CLASSES, CLASSIFIER_WIDTH = 32, 10, 256
# The same for the command line.
OPTIONS = (
    *("--config", CONFIG, "--batch-norm", "--head", "flatten", "--input-size", str(INPUT_SIZE)),
    *("--num-classes", str(NUM_CLASSES), "--classifier-width", str(CLASSIFIER_WIDTH), "--weights", str(WEIGHTS)),
)


def trained_spec() -> ModelSpec:
    """Return the spec of the network with the committed weights."""
    return make_spec(
        config=CONFIG,
        batch_norm=True,
        head="flatten",
        input_size=INPUT_SIZE,
        num_classes=NUM_CLASSES,
        classifier_width=CLASSIFIER_WIDTH,
        weights=str(WEIGHTS),
    )
