"""A few hundred real images: what is learned from some of them holds for others."""

import numpy as np
import pytest

from tests.train.small import Listener
from tests.trained import IMAGES, IMAGES_SHA256, write_real_data
from vggbench.data.dataset import open_dataset
from vggbench.train.recipe import read_recipe
from vggbench.train.training import Request, start_training

SEEDS = (1, 2, 3)
WANTED = 0.3  # three times chance


def test_the_images_are_the_ones_they_were():
    images = open_dataset(IMAGES, "test")
    assert (len(images), images.sha256) == (500, IMAGES_SHA256)
    assert min(np.bincount(images.labels)) >= 46


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_real_data(tmp_path_factory.mktemp("real"))


@pytest.mark.slow
def test_what_is_learned_holds_for_images_that_were_not_seen(data, tmp_path):
    changes = {
        "network.config": "16,M,32,M,64,M",
        "network.classifier_width": 512,
        "epochs": 25,
        "optimizer.batch_size": 32,
        "optimizer.learning_rate": 0.05,
        "optimizer.label_smoothing": 0.0,
        "precision": "fp32",
    }
    found = []
    for seed in SEEDS:
        request = Request(
            recipe_name="few",
            recipe=read_recipe("narrow-bn", changes | {"seed": seed}),
            data=data,
            folder=tmp_path / str(seed),
            device="cpu",
            threads=1,
        )
        found.append(start_training(request, Listener()).test_accuracy)
    assert min(found) >= WANTED, found
