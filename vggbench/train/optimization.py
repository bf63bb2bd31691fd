"""The optimiser and the schedule of a recipe, made of torch's own. Imports torch inside its functions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vggbench.train.recipe import OneCycleSchedule, OptimizerTable, PlateauSchedule, Schedule, StepSchedule

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import SGD


class Descent:
    """Stochastic gradient descent with coupled or decoupled weight decay.

    Decoupled (Loshchilov and Hutter, 2019, algorithm 1, with PyTorch's AdamW's scaling by the learning rate):
    `w <- (1 - rate * decay) * w`, then the step with momentum, whose gradient knows nothing of the decay.
    """

    def __init__(self, network: nn.Module, table: OptimizerTable) -> None:
        from torch.optim import SGD

        groups = _parameter_groups(network, table)
        coupled = table.decay == "coupled"
        self._decays = [0.0 if coupled else group["weight_decay"] for group in groups]
        if not coupled:
            groups = [group | {"weight_decay": 0.0} for group in groups]
        self.sgd: SGD = SGD(groups, lr=table.learning_rate, momentum=table.momentum, nesterov=table.nesterov)

    def before_step(self) -> None:
        """Take the decoupled decay away; call it before every step."""
        import torch

        with torch.no_grad():
            for group, decay in zip(self.sgd.param_groups, self._decays, strict=True):
                if decay:
                    torch._foreach_mul_(group["params"], 1 - group["lr"] * decay)

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.sgd.param_groups[0]["lr"])


def _parameter_groups(network: nn.Module, table: OptimizerTable) -> list[dict[str, Any]]:
    """Return the parameters with their decay: those of convolutions and linear layers, and those without any."""
    parameters = list(network.parameters())
    if table.decay_of == "all":
        return [{"params": parameters, "weight_decay": table.weight_decay}]
    weights = [parameter for parameter in parameters if parameter.dim() > 1]  # biases and batch norms have one
    others = [parameter for parameter in parameters if parameter.dim() == 1]
    return [{"params": weights, "weight_decay": table.weight_decay}, {"params": others, "weight_decay": 0.0}]


class Scheduler:
    """A recipe's schedule: told of every start and end of an epoch and of every batch, it steps when it should."""

    def __init__(self, schedule: Schedule, sgd: SGD, *, epochs: int, batches: int) -> None:
        self._schedule = schedule
        self._torch: Any = _torch_scheduler(schedule, sgd, epochs * batches)

    def epoch_starts(self) -> None:
        """Step, if that is when."""
        if isinstance(self._schedule, StepSchedule) and self._schedule.stepped == "epoch-start":
            with _before_the_optimizer():
                self._torch.step()

    def batch_done(self) -> None:
        """Step, if that is when."""
        if isinstance(self._schedule, OneCycleSchedule):
            self._torch.step()

    def epoch_ends(self, losses: dict[str, float | None]) -> None:
        """Step, if that is when; `losses` has the epoch's by the names that a plateau schedule watches."""
        if isinstance(self._schedule, PlateauSchedule):
            self._torch.step(losses[self._schedule.watched])
        elif isinstance(self._schedule, StepSchedule) and self._schedule.stepped == "epoch-end":
            self._torch.step()

    def state_dict(self) -> dict[str, Any]:
        """Return plain data that `load_state_dict` takes."""
        return {} if self._torch is None else dict(self._torch.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another left off; the rate itself is in the optimiser's state.

        `ValueError` where that was a schedule of another length.
        """
        if isinstance(self._schedule, OneCycleSchedule) and state["total_steps"] != self._torch.total_steps:
            raise ValueError(f"a schedule of {state['total_steps']} steps, not {self._torch.total_steps}")
        if self._torch is not None:
            self._torch.load_state_dict(state)


def _torch_scheduler(schedule: Schedule, sgd: SGD, total_steps: int) -> Any:
    from torch.optim import lr_scheduler

    if isinstance(schedule, StepSchedule):
        return lr_scheduler.StepLR(sgd, schedule.every_epochs, schedule.factor)
    if isinstance(schedule, PlateauSchedule):
        least = schedule.least_learning_rate
        return lr_scheduler.ReduceLROnPlateau(sgd, factor=schedule.factor, patience=schedule.patience, min_lr=least)
    if isinstance(schedule, OneCycleSchedule):
        return lr_scheduler.OneCycleLR(
            sgd,
            max_lr=[group["lr"] for group in sgd.param_groups],
            total_steps=total_steps + 1,  # it steps after the last batch, too
            pct_start=schedule.warmup,
            anneal_strategy=schedule.shape,
            cycle_momentum=False,
            div_factor=1 / schedule.start_factor,
            final_div_factor=schedule.start_factor / schedule.end_factor,
        )
    return None


@contextmanager
def _before_the_optimizer() -> Iterator[None]:
    """Keep torch from warning of what the recipe asks for: a schedule that steps before the first step."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
        yield
