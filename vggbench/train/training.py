"""A training from its request to its weights: opened, checked, trained, saved. The parts are told apart in `loop`.

Imports torch inside its functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vggbench.artefacts.space import check_room
from vggbench.data.dataset import DataSet, open_dataset
from vggbench.errors import DataError, RecipeError, RunFolderError, TrainingError
from vggbench.models.description import Description
from vggbench.models.layers import totals, walk
from vggbench.models.spec import ModelSpec
from vggbench.models.weights import build_module
from vggbench.results.run_folder import held, make_folder
from vggbench.train.batches import Batches, augmentation_of, split
from vggbench.train.checkpoint import (
    CHECKPOINT,
    Checkpoint,
    Position,
    TrainingInfo,
    read_checkpoint,
    write_checkpoint,
)
from vggbench.train.files import Outcome, saved_state, write_curves, write_history, write_weights
from vggbench.train.loop import Loop, Observer
from vggbench.train.machine import (
    check_precision,
    find_device,
    find_threads,
    memory_errors,
    torch_set_up,
    torch_version,
)
from vggbench.train.recipe import OneCycleSchedule, Recipe, checked_recipe
from vggbench.train.scores import Score
from vggbench.train.starting_weights import RANDOM, find_start, starting_network
from vggbench.train.trainer import Trainer
from vggbench.version import VERSION

if TYPE_CHECKING:
    from vggbench.models.weights_file import State

COPIES = 2 * 2  # weights and momentum, in the checkpoint that is and in the one that replaces it
LOADERS = {"cpu": 1, "cuda": 4}  # threads that prepare batches: on a CPU they take time from the training
FEWEST_IN_A_BATCH = 2  # one alone has no spread that a batch norm could divide by
EVALUATION_BATCH = 256  # images at once where nothing is kept for a backward pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for.

    Attributes:
        init: `random`, `imagenet`, a published file's name, or a file.
        device: `cpu` or `cuda`; None: a GPU where there is one.
        threads: of torch; None: the physical cores that this process may use.
        whole_process: whether the process is there for the training alone, so that all its CPU seconds count.
    """

    recipe_name: str
    recipe: Recipe
    data: Path
    folder: Path
    init: str = RANDOM
    device: str | None = None
    threads: int | None = None
    whole_process: bool = False


@dataclass(frozen=True, slots=True)
class Sets:
    """The images; `test` is None where the folder has no others than those that are trained on."""

    train: DataSet
    test: DataSet | None


def start_training(request: Request, observer: Observer) -> Outcome:
    """Train from the beginning and return what came of it; the folder must not hold a training already."""
    sets = _open(request.data, observer)
    spec = _spec(request, sets.train)
    device = find_device(request.device)
    check_precision(request.recipe.precision, device)
    indices, apart = _indices(request.recipe, sets.train)
    start = find_start(spec, request.init)
    info = TrainingInfo(
        recipe_name=Path(request.recipe_name).name,
        recipe=request.recipe,
        spec=spec.to_json(),
        init=start.text,
        data=sets.train.name,
        data_sha256=sets.train.sha256,
        test_sha256=sets.test.sha256 if sets.test else "",
        classes=sets.train.classes,
        images=len(indices),
        validation_images=len(apart),
        device=device,
        threads=find_threads(request.threads),
        torch=torch_version(),
        vggbench=VERSION,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    network = starting_network(spec, start, sets.train.classes)
    make_folder(request.folder)
    with held(request.folder):
        if (request.folder / CHECKPOINT).exists():
            raise RunFolderError(f"{request.folder} holds a training already; give --resume, or another --output")
        check_room(COPIES * totals(walk(spec)).weight_bytes, request.folder, option="--output")
        with torch_set_up(info.device, info.threads):
            work = _Work(request.folder, info, sets, _trainer(network, info, sets.train), observer)
            work.save(Position())
            return work.finish(Position(), whole_process=request.whole_process)


def resume_training(
    folder: Path, data: Path, observer: Observer, *, epochs: int | None = None, whole_process: bool = False
) -> Outcome:
    """Go on with the training in a folder, on the same images; `epochs` in all, if others than it was begun with."""
    if not folder.is_dir():
        raise RunFolderError(f"{folder} holds no training to go on with; name its folder with --output")
    with held(folder):
        checkpoint = read_checkpoint(folder)
        info = checkpoint.info if epochs is None else _with_epochs(checkpoint, epochs)
        sets = _open(data, observer)
        _check_same(info, sets, data)
        find_device(info.device)
        with torch_set_up(info.device, info.threads):
            trainer = _trainer(build_module(ModelSpec.from_json(info.spec)), info, sets.train)
            if checkpoint.position.batch > _batches(info, sets.train)[0].count or info.classes != sets.train.classes:
                raise _misfit(folder)
            _load(trainer, checkpoint, folder)
            work = _Work(folder, info, sets, trainer, observer)
            return work.finish(checkpoint.position, whole_process=whole_process)


def _load(trainer: Trainer, checkpoint: Checkpoint, folder: Path) -> None:
    try:
        trainer.load_state_dict(checkpoint.trainer)
    except (LookupError, TypeError, ValueError, RuntimeError):
        raise _misfit(folder) from None


def _misfit(folder: Path) -> RunFolderError:
    return RunFolderError(f"{folder / CHECKPOINT} does not fit its own recipe; start again elsewhere")


@dataclass(frozen=True, slots=True)
class _Work:
    """A training that is ready to go on."""

    folder: Path
    info: TrainingInfo
    sets: Sets
    trainer: Trainer
    observer: Observer

    def save(self, position: Position) -> None:
        """Keep all of it as it is now."""
        write_checkpoint(self.folder, Checkpoint(self.info, position, self.trainer.state_dict()))
        write_history(self.folder, position.history)
        if position.batch:  # an interruption: nothing else saves in the middle of an epoch
            write_curves(self.folder, _title(self.info, position.epoch), position.history)

    def finish(self, position: Position, *, whole_process: bool) -> Outcome:
        """Train from the position on, test once, and write everything."""
        info = self.info
        training, validation = _batches(info, self.sets.train)
        loaders = LOADERS[info.device]
        loop = Loop(self.trainer, training, validation, info.recipe.epochs, loaders, self.save, self.observer)
        with memory_errors(info.recipe.optimizer.batch_size):
            position = loop.run(position, whole_process=whole_process)
            state = saved_state(self.trainer.network, info.recipe.saved_as)
            test = None if self.sets.test is None else _test(info, state, self.sets.test)
        outcome = _outcome(position, test)
        tested = outcome.test_accuracy
        write_curves(self.folder, _title(info, position.epoch, tested), position.history)
        preprocessing = info.recipe.images.preprocessing(info.input_size)
        description = Description(classes=info.classes, preprocessing=preprocessing)
        write_weights(self.folder, state, description, outcome.to_json(info))
        return outcome


def _outcome(position: Position, test: Score | None) -> Outcome:
    trained = Outcome(epochs=position.epoch, wall_s=position.all_wall_s, cpu_s=position.all_cpu_s)
    if test is None:
        return trained
    return replace(trained, test_images=test.images, test_correct=test.correct, test_loss=test.loss)


def _open(data: Path, observer: Observer) -> Sets:
    train, test = open_dataset(data, "train"), open_dataset(data, "test")
    apart = test.sha256 != train.sha256
    for images in (train, test) if apart else (train,):
        observer.opened(images)
    if test.classes != train.classes:
        other = sorted(set(train.classes) ^ set(test.classes)) or ["their order"]
        raise DataError(
            f"data {str(data)!r}: {len(train.classes)} classes to train on, {len(test.classes)} to test on; "
            f"they differ in {', '.join(other[:3])}"
        )
    return Sets(train, test if apart else None)


def _spec(request: Request, train: DataSet) -> ModelSpec:
    network, found = request.recipe.network, len(train.classes)
    if network.num_classes is not None and network.num_classes != found:
        raise RecipeError(
            f"recipe {request.recipe_name} is for {network.num_classes} classes and {train.name} has {found} "
            f"({', '.join(train.classes[:3])}, ...); --num-classes {found} trains it on these"
        )
    spec = network.spec(found, request.recipe.seed)
    if spec.batch_norm and request.recipe.optimizer.batch_size < FEWEST_IN_A_BATCH:
        raise RecipeError("optimizer.batch_size is 1; a batch norm needs 2 images to have a spread to divide by")
    preprocessing = request.recipe.images.preprocessing(spec.input_size)
    train.batch(np.zeros(1, dtype=np.int64), preprocessing, spec.input_size)  # do the images fit the network?
    return spec


def _indices(recipe: Recipe, train: DataSet) -> tuple[Any, Any]:
    """Return the images to train on and those kept apart; `RecipeError` where one of them is without any."""
    indices, apart = split(len(train), recipe.images.validation_share, recipe.images.validation_seed)
    if len(indices) < _least(recipe) or (recipe.images.validation_share and not len(apart)):
        raise RecipeError(
            f"images.validation_share {recipe.images.validation_share:g} of the {len(train)} images of {train.name} "
            f"leaves {len(indices)} to train on and {len(apart)} to validate with"
        )
    return indices, apart


def _least(recipe: Recipe) -> int:
    """Return the fewest images of an epoch's last batch."""
    return min(FEWEST_IN_A_BATCH, recipe.optimizer.batch_size)


def _batches(info: TrainingInfo, train: DataSet) -> tuple[Batches, Batches | None]:
    recipe, images = info.recipe, info.recipe.images
    indices, apart = _indices(recipe, train)
    size = info.input_size
    preprocessing = images.preprocessing(size)
    training = Batches(
        train,
        indices,
        preprocessing,
        size,
        recipe.optimizer.batch_size,
        seed=recipe.seed,
        augmentation=augmentation_of(images),
        least=_least(recipe),
    )
    validation = Batches(train, apart, preprocessing, size, EVALUATION_BATCH)
    return training, validation if len(apart) else None


def _trainer(network: Any, info: TrainingInfo, train: DataSet) -> Trainer:
    training, _ = _batches(info, train)
    return Trainer(network, info.recipe, device=info.device, epochs=info.recipe.epochs, batches=training.count)


def _test(info: TrainingInfo, state: State, test: DataSet) -> Score:
    """Return how the weights do as they are saved, in fp32, on every test image."""
    spec = ModelSpec.from_json(info.spec)
    plain = info.recipe.model_copy(update={"precision": "fp32"})
    network = build_module(spec, {key: _wide(tensor) for key, tensor in state.items()})
    images = np.arange(len(test), dtype=np.int64)
    preprocessing = info.recipe.images.preprocessing(spec.input_size)
    batches = Batches(test, images, preprocessing, spec.input_size, EVALUATION_BATCH)
    trainer = Trainer(network, plain, device=info.device, epochs=1, batches=1)
    score = trainer.evaluate(batches.epoch(0))
    if not math.isfinite(score.loss):
        raise TrainingError(f"the loss on the test images is {score.loss}: train with a lower --learning-rate")
    return score


def _wide(tensor: Any) -> Any:
    return tensor.float() if tensor.is_floating_point() else tensor


def _title(info: TrainingInfo, epochs: int, tested: float | None = None) -> str:
    accuracy = "" if tested is None else f", {100 * tested:.2f} % of the test images"
    return f"{info.recipe_name}: {info.spec['variant']}, {epochs} of {info.recipe.epochs} epochs{accuracy}"


def _with_epochs(checkpoint: Checkpoint, epochs: int) -> TrainingInfo:
    """Return the training with another end; refused where its schedule was laid out for the one it has."""
    info, recipe = checkpoint.info, checkpoint.info.recipe
    if epochs == recipe.epochs:
        return info
    if isinstance(recipe.schedule, OneCycleSchedule):
        raise RecipeError(
            f"the one-cycle schedule was laid out for {recipe.epochs} epochs; resume with those, or start again"
        )
    if epochs < checkpoint.position.epoch:
        raise RecipeError(f"--epochs is {epochs}, and {checkpoint.position.epoch} are trained already")
    return replace(info, recipe=checked_recipe(recipe.model_dump() | {"epochs": epochs}, info.recipe_name))


def _check_same(info: TrainingInfo, sets: Sets, data: Path) -> None:
    test_sha256 = sets.test.sha256 if sets.test else ""
    for what, stored, found in (
        ("trained on", info.data_sha256, sets.train.sha256),
        ("tested on", info.test_sha256, test_sha256),
    ):
        if stored != found:
            raise RunFolderError(
                f"data {str(data)!r} holds other images than those {what} so far (sha256 {found[:12]} instead of "
                f"{stored[:12]}); give the same --data, or start again with another --output"
            )
