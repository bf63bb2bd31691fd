"""The files of a training beside its checkpoint: history, curves, weights, and what it came to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggbench.errors import TrainingError
from vggbench.models.description import TRAINING_KEY, Description
from vggbench.results.run_folder import write_whole
from vggbench.train.scores import EpochScore, history_csv

if TYPE_CHECKING:
    from torch import nn

    from vggbench.models.weights_file import State
    from vggbench.train.checkpoint import TrainingInfo

HISTORY = "history.csv"
CURVES = "curves.html"
WEIGHTS = "model.safetensors"
TRAINING = "training.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a training came to.

    Attributes:
        test_correct: test images that the saved weights got right in fp32; None where no test images are apart.
        wall_s, cpu_s: seconds of every process that trained, of all their threads, from start to the last epoch's end.
    """

    epochs: int
    wall_s: float
    cpu_s: float
    test_images: int | None = None
    test_correct: int | None = None
    test_loss: float | None = None

    @property
    def test_accuracy(self) -> float | None:
        """From 0 to 1."""
        return None if not self.test_images or self.test_correct is None else self.test_correct / self.test_images

    def to_json(self, info: TrainingInfo) -> dict[str, Any]:
        """Return all that is to be known of the weights, as plain data."""
        return {**info.to_json(), "outcome": {**asdict(self), "test_accuracy": self.test_accuracy}}


def write_history(folder: Path, history: Sequence[EpochScore]) -> None:
    """Write the table of the epochs so far."""
    write_whole(folder / HISTORY, lambda file: file.write(history_csv(history).encode()))


def write_curves(folder: Path, title: str, history: Sequence[EpochScore]) -> None:
    """Write the curves of the epochs so far."""
    from vggbench.train.curves import curves_html

    write_whole(folder / CURVES, lambda file: file.write(curves_html(title, history).encode()))


def saved_state(network: nn.Module, saved_as: str) -> State:
    """Return the network's weights as a file is to hold them, on the CPU, each in memory of its own.

    `TrainingError` where that type does not hold them, or they were lost in the last steps, which no loss showed.
    """
    import torch

    dtype = torch.float16 if saved_as == "fp16" else torch.float32
    state = {
        key: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype, copy=True).contiguous()
        for key, tensor in network.state_dict().items()
    }
    for key, tensor in state.items():
        if lost := int((~torch.isfinite(tensor)).sum()):
            raise TrainingError(
                f"{lost} of {tensor.numel()} values of {key} are not finite in {saved_as}, and no weights are written: "
                "train with a lower --learning-rate"
            )
    return state


def write_weights(folder: Path, state: State, description: Description, training: Mapping[str, Any]) -> str:
    """Write the weights with what they say of themselves, and `training.json`; return the weights' SHA-256."""
    from safetensors.torch import save

    metadata = description.metadata() | {TRAINING_KEY: json.dumps(training, sort_keys=True)}
    content = save(state, metadata)
    sha256 = hashlib.sha256(content).hexdigest()
    write_whole(folder / WEIGHTS, lambda file: file.write(content))
    text = json.dumps({**training, "weights_sha256": sha256}, indent=1) + "\n"
    write_whole(folder / TRAINING, lambda file: file.write(text.encode()))
    return sha256
