"""`vggbench train`: weights that mean something, from images of one's own. Imports nothing heavy."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vggbench.cli.images import announce_images
from vggbench.cli.options import (
    BatchNormOption,
    ConfigOption,
    HeadOption,
    InputSizeOption,
    JsonOption,
    LocalResponseNormOption,
    folder,
)
from vggbench.cli.planning import takes_options
from vggbench.cli.progress import say
from vggbench.errors import RequestError

if TYPE_CHECKING:
    from rich.progress import Progress

    from vggbench.data.dataset import DataSet
    from vggbench.train.files import Outcome
    from vggbench.train.loop import Observer
    from vggbench.train.recipe import Recipe
    from vggbench.train.scores import EpochScore, Score
    from vggbench.train.training import Request

DEFAULT_RECIPE, RECIPE_OF_PUBLISHED = "narrow-bn", "fine-tune"
TOLD_EVERY_S = 60.0  # where no bar is shown and an epoch takes long
_MODEL, _TRAINING, _PLACES = "Model", "Training", "Places"

VariantOption = Annotated[
    str | None,
    typer.Option(
        "--variant",
        metavar="NAME",
        help="Network: a name of `vggbench list`; without it, the recipe's.",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
ClassesOption = Annotated[
    int | None,
    typer.Option(
        "--num-classes",
        metavar="N",
        help="Classes that the images must have; without it, what the recipe says, or as many as they have.",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
WidthOption = Annotated[
    int | None,
    typer.Option(
        "--classifier-width",
        metavar="N",
        help="Width of the hidden linear layers.",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
InitOption = Annotated[
    str | None,
    typer.Option(
        "--init",
        metavar="random|imagenet|FILE",
        help="Where the weights start: drawn, torchvision's, or a file's; the last layer is made anew unless the file "
        "names these very classes. Without it, random.",
        show_default=False,
        rich_help_panel=_TRAINING,
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE",
        help="cifar-bn, cifar-tutorial, fine-tune, narrow-bn, vgg16c-plateau, or a TOML file. Without it narrow-bn, or "
        "fine-tune where --init is given.",
        show_default=False,
        rich_help_panel=_TRAINING,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A single value of the recipe, such as optimizer.momentum=0.8. Repeatable.",
        show_default=False,
        rich_help_panel=_TRAINING,
    ),
]


def _number(name: str, metavar: str, help_text: str) -> Any:
    return typer.Option(name, metavar=metavar, help=help_text, show_default=False, rich_help_panel=_TRAINING)


EpochsOption = Annotated[int | None, _number("--epochs", "N", "Epochs in all; also beside --resume.")]
BatchSizeOption = Annotated[int | None, _number("--batch-size", "N", "Images of a step.")]
RateOption = Annotated[float | None, _number("--learning-rate", "RATE", "The highest of the schedule.")]
SeedOption = Annotated[int | None, _number("--seed", "N", "Decides start, order, augmentation and dropout.")]
PrecisionOption = Annotated[
    str | None, _number("--precision", "NAME", "fp32, bf16, or on a GPU fp16: what the passes are computed in.")
]
DeviceOption = Annotated[str | None, _number("--device", "NAME", "cpu or cuda; a GPU where there is one.")]
ThreadsOption = Annotated[
    int | None, _number("--threads", "N", "Of torch; the physical cores this process may use without it.")
]
DataOption = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        parser=folder,
        help="CIFAR-10, or a folder with train and test folders that have a sub-folder a class.",
        show_default=False,
        rich_help_panel=_PLACES,
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        parser=folder,
        metavar="DIR",
        help="The training's folder; trainings/<time> without it.",
        show_default=False,
        rich_help_panel=_PLACES,
    ),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on with the training in --output.", rich_help_panel=_PLACES)
]


@dataclass(frozen=True, slots=True)
class RecipeChoice:
    """What the command line says of the recipe: `changes` by the recipe's keys, those that were given."""

    name: str | None
    changes: Mapping[str, Any]

    def read(self, default: str) -> tuple[str, Recipe]:
        """Return the recipe with the changes laid over it, and what it is called."""
        from vggbench.train.recipe import read_recipe

        name = default if self.name is None else self.name
        return name, read_recipe(name, self.changes)


def choose_recipe(
    recipe: RecipeOption = None,
    set_values: SetOption = None,
    variant: VariantOption = None,
    config: ConfigOption = None,
    batch_norm: BatchNormOption = None,
    local_response_norm: LocalResponseNormOption = None,
    num_classes: ClassesOption = None,
    input_size: InputSizeOption = None,
    head: HeadOption = None,
    classifier_width: WidthOption = None,
    batch_size: BatchSizeOption = None,
    learning_rate: RateOption = None,
    seed: SeedOption = None,
    precision: PrecisionOption = None,
) -> RecipeChoice:
    """Collect the options that change a recipe; a variant takes the place of the recipe's whole network."""
    from vggbench.train.recipe import parse_changes

    network = {
        "batch_norm": batch_norm,
        "local_response_norm": local_response_norm,
        "num_classes": num_classes,
        "input_size": input_size,
        "head": head,
        "classifier_width": classifier_width,
    }
    values: dict[str, Any] = {f"network.{name}": value for name, value in network.items()}
    values |= {"optimizer.batch_size": batch_size, "optimizer.learning_rate": learning_rate}
    values |= {"seed": seed, "precision": precision}
    changes = {key: value for key, value in values.items() if value is not None}
    if variant is not None:
        changes = {"network": {"variant": variant}, **changes}
    if config is not None:
        changes = {"network.variant": variant, "network.config": config, **changes}
    return RecipeChoice(recipe, changes | parse_changes(set_values or []))


@takes_options(choose_recipe)
def train(
    choice: RecipeChoice,
    data: DataOption,
    init: InitOption = None,
    epochs: EpochsOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    output: OutputOption = None,
    resume: ResumeOption = False,
    json_output: JsonOption = False,
) -> None:
    """Train a network on CIFAR-10 or photos of your own.

    It writes weights that every command takes. What was stopped or killed goes on with --resume, on a CPU to the same
    weights to the bit.
    """
    from vggbench.train.training import resume_training, start_training

    if resume:
        _check_alone(choice, init, device, threads)
        with _progress() as observer:
            folder = _folder_to_resume(output)
            outcome = resume_training(folder, data, observer, epochs=epochs, whole_process=True)
    else:
        request = _request(choice, data, init, epochs, device, threads, output)
        folder = request.folder
        with _progress() as observer:
            outcome = start_training(request, observer)
    _show(outcome, folder, json_output=json_output)


def _request(
    choice: RecipeChoice,
    data: Path,
    init: str | None,
    epochs: int | None,
    device: str | None,
    threads: int | None,
    output: Path | None,
) -> Request:
    from vggbench.train.starting_weights import RANDOM
    from vggbench.train.training import Request

    default = DEFAULT_RECIPE if init in {None, RANDOM} else RECIPE_OF_PUBLISHED
    if epochs is not None:
        choice = replace(choice, changes={**choice.changes, "epochs": epochs})
    name, recipe = choice.read(default)
    return Request(
        recipe_name=name,
        recipe=recipe,
        data=data,
        folder=output or Path("trainings") / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ"),
        init=RANDOM if init is None else init,
        device=device,
        threads=threads,
        whole_process=True,
    )


def _folder_to_resume(output: Path | None) -> Path:
    if output is None:
        raise RequestError("--resume needs --output: the folder of the training to go on with")
    return output


def _check_alone(choice: RecipeChoice, *others: object) -> None:
    """Refuse what would make another training of the one that is gone on with."""
    if choice.name is not None or choice.changes or any(value is not None for value in others):
        raise RequestError("--resume goes on with the training as it was begun; beside it only --epochs can be given")


def _show(outcome: Outcome, folder: Path, *, json_output: bool) -> None:
    from vggbench.train.files import CURVES, HISTORY, TRAINING, WEIGHTS

    if json_output:
        print((folder / TRAINING).read_text(encoding="utf-8"), end="")
        return
    if outcome.test_accuracy is None:
        print("no test images are apart from those that were trained on: nothing says how it does on others")
    else:
        print(f"{100 * outcome.test_accuracy:.2f} % of {outcome.test_images} test images are classified correctly")
    print(f"{outcome.epochs} epochs, {outcome.cpu_s / 60:.1f} CPU minutes in {outcome.wall_s / 60:.1f} minutes")
    print(f"written to {folder}: {WEIGHTS}, {TRAINING}, {HISTORY}, {CURVES}")


@contextmanager
def _progress() -> Iterator[Observer]:
    """Yield the observer that fits stderr: a bar on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield PlainLines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as live:
        yield LiveBar(live)


class PlainLines:
    """A line for each epoch, and for each minute of a long one."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def opened(self, images: DataSet) -> None:
        """Say what the images are."""
        announce_images(images)

    def learned(self, epoch: int, done: int, total: int, score: Score) -> None:
        """Say how far an epoch is, if nothing was said for long."""
        if time.monotonic() - self._told >= TOLD_EVERY_S and done < total:
            self._told = time.monotonic()
            say(f"epoch {epoch}: {done} of {total} batches, loss {score.loss:.4f}")

    def finished(self, row: EpochScore, epochs: int) -> None:
        """Say what the epoch came to."""
        self._told = time.monotonic()
        say(epoch_text(row, epochs))


class LiveBar:
    """A bar for the epoch in hand; the lines of the finished ones stay above it."""

    def __init__(self, live: Progress) -> None:
        self._live = live
        self._task = live.add_task("preparing", total=None)
        self._epoch = 0

    def opened(self, images: DataSet) -> None:
        """Say what the images are, above the bar."""
        announce_images(images)

    def learned(self, epoch: int, done: int, total: int, score: Score) -> None:
        """Move on."""
        if epoch != self._epoch:
            self._live.reset(self._task, total=total)
            self._epoch = epoch
        self._live.update(self._task, description=f"epoch {epoch}, loss {score.loss:.3f}", completed=done)

    def finished(self, row: EpochScore, epochs: int) -> None:
        """Keep the epoch's line."""
        self._live.console.print(epoch_text(row, epochs), markup=False, highlight=False, soft_wrap=True)


def epoch_text(row: EpochScore, epochs: int) -> str:
    """Return what an epoch came to, in a line."""
    text = f"epoch {row.epoch}/{epochs}: loss {row.train_loss:.4f}, {100 * row.train_accuracy:.1f} % of training images"
    if row.validation_loss is not None and row.validation_accuracy is not None:
        text += f"; validation {row.validation_loss:.4f}, {100 * row.validation_accuracy:.1f} %"
    return f"{text}; {row.wall_s:.0f} s, {row.cpu_s:.0f} CPU s"
