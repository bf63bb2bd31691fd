"""One step, one evaluation, one state."""

import math

import numpy as np
import pytest
import torch

from tests.train.small import data_set, recipe, recipe_data
from vggbench.errors import TrainingError
from vggbench.models.weights import build_module
from vggbench.train.trainer import Trainer


def trainer(**changes):
    made = recipe(**changes)
    return Trainer(build_module(made.network.spec(10, made.seed)), made, device="cpu", epochs=2, batches=3)


def batch(count=8, seed=0):
    made = data_set(count, seed)
    return made.batch(np.arange(count), recipe().images.preprocessing(32), 32), made.labels


def same(state, other):
    return all(torch.equal(state[key], other[key]) for key in state)


def copied(made):
    return {key: tensor.clone() for key, tensor in made.network.state_dict().items()}


def test_a_loss_that_is_no_number_takes_no_step():
    made = trainer()
    before = copied(made)
    inputs, labels = batch()
    with pytest.raises(TrainingError, match=r"the loss is nan at a learning rate of 0\.005"):
        made.learn((np.full_like(inputs, np.nan), labels))
    learned = {key for key in before if not key.split(".")[-1].startswith(("running", "num_batches"))}
    assert same({key: before[key] for key in learned}, made.network.state_dict())


def test_the_score_is_of_the_batch():
    made = trainer(network=recipe_data()["network"] | {"dropout": 0.0})
    inputs, labels = batch()
    made.network.train()
    with torch.no_grad():
        logits = made.network(torch.from_numpy(inputs))
    score = trainer(network=recipe_data()["network"] | {"dropout": 0.0}).learn((inputs, labels))
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).item()
    assert score.loss == pytest.approx(expected, rel=1e-6)
    assert score.images == 8
    assert score.correct == int((logits.argmax(1) == torch.from_numpy(labels)).sum())


def test_label_smoothing_is_learned_with_and_not_evaluated_with():
    smooth = recipe_data()["optimizer"] | {"label_smoothing": 0.5}
    plain = recipe_data()["network"] | {"dropout": 0.0}
    with_it, without = trainer(optimizer=smooth, network=plain), trainer(network=plain)
    assert with_it.evaluate([batch()]) == without.evaluate([batch()])
    assert with_it.learn(batch()).loss != without.learn(batch()).loss


def test_evaluating_changes_nothing_and_adds_up():
    made = trainer()
    before = copied(made)
    parts = made.evaluate([batch(8, 0), batch(4, 1)])
    assert same(before, made.network.state_dict())
    assert parts.images == 12
    one, other = made.evaluate([batch(8, 0)]), made.evaluate([batch(4, 1)])
    assert parts.loss_sum == pytest.approx(one.loss_sum + other.loss_sum)
    assert parts.correct == one.correct + other.correct
    assert math.isfinite(parts.loss)


def test_dropout_is_the_recipes():
    rates = [
        [
            layer.p
            for layer in trainer(network=recipe_data()["network"] | {"dropout": rate}).network.modules()
            if isinstance(layer, torch.nn.Dropout)
        ]
        for rate in (0.0, 0.3)
    ]
    assert rates == [[0.0, 0.0], [0.3, 0.3]]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_another_goes_on_from_the_state_to_the_bit(precision):
    made = trainer(precision=precision, channels_last=precision == "bf16")
    made.learn(batch(8, 0))
    made.schedule.batch_done()
    state = made.state_dict()
    state["network"] = copied(made)
    state["random"] = {"cpu": torch.get_rng_state()}
    kept = torch.load(_saved(state), weights_only=True)
    first = made.learn(batch(8, 1))
    torch.rand(3)  # whatever else the process drew
    other = trainer(precision=precision, channels_last=precision == "bf16")
    other.load_state_dict(kept)
    assert other.learn(batch(8, 1)) == first
    assert other.rate_used == made.rate_used
    assert same(made.network.state_dict(), other.network.state_dict())


def _saved(state):
    import io

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


def test_bf16_computes_in_bf16_and_keeps_fp32_weights():
    made, plain = trainer(precision="bf16"), trainer()
    seen = []
    made.network.features[0].register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    made.learn(batch())
    assert seen == [torch.bfloat16]
    assert {tensor.dtype for tensor in made.network.parameters()} == {torch.float32}
    plain.learn(batch())
    assert not same(made.network.state_dict(), plain.network.state_dict())
