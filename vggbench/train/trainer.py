"""A network that learns: one batch after the other, and everything that going on in another process needs.

Imports torch inside its functions. Knows no files and no data set.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from vggbench.errors import TrainingError
from vggbench.train.optimization import Descent, Scheduler
from vggbench.train.recipe import Recipe
from vggbench.train.scores import Score

if TYPE_CHECKING:
    from torch import Tensor

    from vggbench.models.vgg import VGG
    from vggbench.train.batches import Batch


class Trainer:
    """Network, optimiser, schedule and random numbers of one training."""

    def __init__(self, network: VGG, recipe: Recipe, *, device: str, epochs: int, batches: int) -> None:
        """Take the network over: it is moved to the device and trained in place; `batches` are those of an epoch."""
        import torch

        self._recipe = recipe
        self._device = torch.device(device)
        self._layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        for layer in network.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.p = recipe.network.dropout
        # torch's stubs do not know `memory_format` beside a device.
        self.network: VGG = network.to(self._device, memory_format=self._layout)  # type: ignore[call-overload]
        self._descent = Descent(self.network, recipe.optimizer)
        self.schedule = Scheduler(recipe.schedule, self._descent.sgd, epochs=epochs, batches=batches)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=recipe.precision == "fp16")
        self._rate_used = self._descent.rate
        torch.manual_seed(recipe.seed)

    @property
    def rate_used(self) -> float:
        """The learning rate of the last batch."""
        return self._rate_used

    def learn(self, batch: Batch) -> Score:
        """Take one step; `TrainingError` if the loss is not finite, and then no step is taken."""
        from torch.nn.functional import cross_entropy

        self.network.train()
        inputs, labels = self._moved(batch)
        with self._autocast():
            logits = self.network(inputs)
        loss = cross_entropy(logits.float(), labels, label_smoothing=self._recipe.optimizer.label_smoothing)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(f"the loss is {value} at a learning rate of {self._descent.rate:.3g}")
        self._step(loss)
        return Score(value * len(labels), _correct(logits, labels), len(labels))

    def evaluate(self, batches: Iterable[Batch]) -> Score:
        """Return how the network does as it is, without dropout and label smoothing."""
        import torch
        from torch.nn.functional import cross_entropy

        self.network.eval()
        total = Score()
        with torch.inference_mode():
            for batch in batches:
                inputs, labels = self._moved(batch)
                with self._autocast():
                    logits = self.network(inputs)
                loss = cross_entropy(logits.float(), labels, reduction="sum").item()
                total += Score(loss, _correct(logits, labels), len(labels))
        return total

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain data that `load_state_dict` takes."""
        import torch

        random = {"cpu": torch.get_rng_state()}
        if self._device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self._device)
        return {
            "network": self.network.state_dict(),
            "optimizer": self._descent.sgd.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "random": random,
            "rate_used": self._rate_used,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another left off, to the bit."""
        import torch

        self.network.load_state_dict(state["network"])
        self._descent.sgd.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"]["cpu"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state["random"]["cuda"], self._device)
        self._rate_used = state["rate_used"]

    def _step(self, loss: Tensor) -> None:
        sgd = self._descent.sgd
        sgd.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._rate_used = self._descent.rate
        self._descent.before_step()
        self._scaler.step(sgd)
        self._scaler.update()

    def _moved(self, batch: Batch) -> tuple[Tensor, Tensor]:
        import torch

        inputs, labels = (torch.from_numpy(array) for array in batch)
        return inputs.to(self._device).contiguous(memory_format=self._layout), labels.to(self._device)

    def _autocast(self) -> AbstractContextManager[Any]:
        import torch

        if self._recipe.precision == "fp32":
            return nullcontext()
        dtype = torch.bfloat16 if self._recipe.precision == "bf16" else torch.float16
        return torch.autocast(self._device.type, dtype=dtype)


def _correct(logits: Tensor, labels: Tensor) -> int:
    return int((logits.argmax(dim=1) == labels).sum())
