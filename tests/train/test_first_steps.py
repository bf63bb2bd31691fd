"""Every packaged recipe takes its first steps on its own network at its own size, the hidden layers narrower."""

import numpy as np
import pytest
import torch

from tests.train.small import data_set
from vggbench.models.weights import build_module
from vggbench.train.batches import Batches, augmentation_of
from vggbench.train.recipe import read_recipe, recipe_names
from vggbench.train.trainer import Trainer

IMAGES = 4  # in two batches


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_takes_its_first_steps(name):
    recipe = read_recipe(name, {"network.classifier_width": 16})
    spec = recipe.network.spec(10, recipe.seed)
    preprocessing = recipe.images.preprocessing(spec.input_size)
    seed, augmentation = recipe.seed, augmentation_of(recipe.images)
    images = data_set(IMAGES)
    batches = Batches(images, np.arange(IMAGES), preprocessing, spec.input_size, 2, seed, augmentation)
    trainer = Trainer(build_module(spec), recipe, device="cpu", epochs=1, batches=batches.count)
    before = trainer.network.features[0].weight.clone()
    seen = []
    trainer.schedule.epoch_starts()
    for batch in batches.epoch(0):
        seen.append(batch[0])
        score = trainer.learn(batch)
        trainer.schedule.batch_done()
        assert (score.images, 0 < score.loss < 100) == (2, True)
    score = trainer.evaluate(batches.epoch(0))
    trainer.schedule.epoch_ends({"train_loss": score.loss, "validation_loss": score.loss})
    assert not torch.equal(trainer.network.features[0].weight, before)
    assert [inputs.shape for inputs in seen] == [(2, 3, spec.input_size, spec.input_size)] * 2
    largest = max(float(np.abs(inputs).max()) for inputs in seen)
    assert largest > 200 if recipe.images.scale == "0-255" else largest < 4
