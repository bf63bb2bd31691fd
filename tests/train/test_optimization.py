"""Steps and learning rates against formulas written out by hand, and against torch's own where it has them."""

import math

import pytest
import torch
from torch import nn

from vggbench.train.optimization import Descent, Scheduler
from vggbench.train.recipe import (
    ConstantSchedule,
    OneCycleSchedule,
    OptimizerTable,
    PlateauSchedule,
    StepSchedule,
)


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(3, 2)


def steps(network, descent, count):
    """Take steps on fixed inputs, whose gradients change as the weights do."""
    for step in range(count):
        inputs = torch.full((4, 3), 0.5 + step, dtype=network.weight.dtype)
        descent.sgd.zero_grad()
        network(inputs).square().sum().backward()
        descent.before_step()
        descent.sgd.step()


def by_hand(weight, bias, *, rate, momentum, decay, count):
    """Loshchilov and Hutter's algorithm 1 with the rate as AdamW scales the decay: the velocity sees no decay."""
    velocity = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for step in range(count):
        inputs = torch.full((4, 3), 0.5 + step, dtype=torch.float64)
        error = 2 * (inputs @ weight.T + bias)
        gradients = [error.T @ inputs, error.sum(0)]
        for place, (value, gradient) in enumerate(zip((weight, bias), gradients, strict=True)):
            velocity[place] = momentum * velocity[place] + gradient
            value.mul_(1 - rate * decay).sub_(rate * velocity[place])
    return weight, bias


def test_decoupled_decay_is_the_formula():
    network = linear().double()
    weight, bias = network.weight.detach().clone(), network.bias.detach().clone()
    table = OptimizerTable(learning_rate=0.01, momentum=0.9, weight_decay=0.2, decay="decoupled")
    steps(network, Descent(network, table), 4)
    weight, bias = by_hand(weight, bias, rate=0.01, momentum=0.9, decay=0.2, count=4)
    torch.testing.assert_close(network.weight.detach(), weight, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(network.bias.detach(), bias, rtol=1e-12, atol=1e-12)


def test_decoupled_decay_is_adamws():
    """With gradients of zero, what is left is the decay alone: torch's AdamW and ours shrink weights alike."""
    network, other = linear().double(), linear().double()
    descent = Descent(network, OptimizerTable(learning_rate=0.05, weight_decay=0.3, decay="decoupled"))
    adamw = torch.optim.AdamW(other.parameters(), lr=0.05, weight_decay=0.3)
    for _ in range(3):
        for module in (network, other):
            for parameter in module.parameters():
                parameter.grad = torch.zeros_like(parameter)
        descent.before_step()
        descent.sgd.step()
        adamw.step()
    torch.testing.assert_close(network.weight, other.weight, rtol=1e-12, atol=0)


def test_coupled_decay_is_torchs():
    network, other = linear(), linear()
    table = OptimizerTable(learning_rate=0.01, momentum=0.8, nesterov=True, weight_decay=0.1)
    steps(network, Descent(network, table), 3)
    sgd = torch.optim.SGD(other.parameters(), lr=0.01, momentum=0.8, nesterov=True, weight_decay=0.1)
    for step in range(3):
        sgd.zero_grad()
        other(torch.full((4, 3), 0.5 + step)).square().sum().backward()
        sgd.step()
    assert torch.equal(network.weight, other.weight)
    assert torch.equal(network.bias, other.bias)


@pytest.mark.parametrize("decay", ["coupled", "decoupled"])
def test_only_weights_decay_where_that_is_asked(decay):
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Linear(3, 2))
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    table = OptimizerTable(learning_rate=0.5, momentum=0.0, weight_decay=0.1, decay=decay, decay_of="weights")
    descent = Descent(network, table)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    descent.before_step()
    descent.sgd.step()
    for name, parameter in network.named_parameters():
        factor = 0.95 if name in {"0.weight", "2.weight"} else 1.0
        torch.testing.assert_close(parameter.detach(), factor * before[name])


def rates(schedule, *, epochs, batches, losses=None, rate=0.1):
    """Return the rate of each batch, by epoch, as the loop has the schedule step."""
    network = linear()
    descent = Descent(network, OptimizerTable(learning_rate=rate))
    scheduler = Scheduler(schedule, descent.sgd, epochs=epochs, batches=batches)
    found = []
    for epoch in range(epochs):
        scheduler.epoch_starts()
        found.append([])
        for _ in range(batches):
            found[-1].append(descent.rate)
            descent.sgd.step()
            scheduler.batch_done()
        loss = losses[epoch] if losses else 1.0
        scheduler.epoch_ends({"validation_loss": loss, "train_loss": 0.0})
    return found


def flat(found):
    assert all(len(set(epoch)) == 1 for epoch in found)
    return [epoch[0] for epoch in found]


def test_steps_at_the_start_of_an_epoch_come_one_epoch_sooner():
    at_start = StepSchedule(kind="step", every_epochs=5, factor=0.9, stepped="epoch-start")
    at_end = StepSchedule(kind="step", every_epochs=5, factor=0.9, stepped="epoch-end")
    tutorial = [0.005] * 4 + [0.0045] * 5 + [0.00405] * 3
    assert flat(rates(at_start, epochs=12, batches=2, rate=0.005)) == pytest.approx(tutorial)
    assert flat(rates(at_end, epochs=12, batches=2, rate=0.005)) == pytest.approx(
        [0.005] * 5 + [0.0045] * 5 + [0.00405] * 2
    )


def test_a_plateau_lowers_the_rate_after_more_than_its_patience():
    schedule = PlateauSchedule(kind="plateau", factor=0.1, patience=1, least_learning_rate=1e-5, stepped="epoch-end")
    losses = [2.0, 1.0, 1.1, 1.2, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]
    #                       two worse: down      then every second that is no better, and never below 1e-5
    expected = [1e-2] * 4 + [1e-3] * 3 + [1e-4] * 2 + [1e-5] * 3
    assert flat(rates(schedule, epochs=12, batches=1, losses=losses, rate=0.01)) == pytest.approx(expected)


def test_a_plateau_may_watch_the_training():
    schedule = PlateauSchedule(kind="plateau", factor=0.5, patience=0, watched="train_loss", stepped="epoch-end")
    assert flat(rates(schedule, epochs=4, batches=1, losses=[4.0, 3.0, 2.0, 1.0])) == [0.1, 0.1, 0.05, 0.025]


def test_one_cycle_goes_up_and_down_over_all_batches():
    schedule = OneCycleSchedule(
        kind="one-cycle", warmup=0.25, shape="linear", start_factor=0.2, end_factor=0.01, stepped="batch"
    )
    found = [rate for epoch in rates(schedule, epochs=4, batches=10, rate=1.0) for rate in epoch]
    top = 0.25 * 41 - 1  # torch's: the share of the steps, counted from 0
    assert found[0] == pytest.approx(0.2)
    assert found[3] == pytest.approx(0.2 + 0.8 * 3 / top)
    assert found[30] == pytest.approx(1 + (0.01 - 1) * (30 - top) / (40 - top))
    assert max(found) == pytest.approx(1.0, abs=0.03)
    assert found[-1] < 0.05


def test_one_cycle_of_cosines():
    schedule = OneCycleSchedule(kind="one-cycle", warmup=0.5, start_factor=0.1, end_factor=0.001, stepped="batch")
    found = [rate for epoch in rates(schedule, epochs=2, batches=10, rate=1.0) for rate in epoch]
    top = 0.5 * 21 - 1
    assert found[15] == pytest.approx(0.001 + 0.999 * (1 + math.cos(math.pi * (15 - top) / (20 - top))) / 2)


def test_a_constant_rate_stays():
    assert flat(rates(ConstantSchedule(kind="constant"), epochs=3, batches=2)) == [0.1, 0.1, 0.1]
