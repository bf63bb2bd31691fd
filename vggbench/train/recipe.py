"""What a training is made of, as a TOML file: network, images, optimiser, schedule. No torch.

A recipe of vggbench's own is named by what it reproduces, and its file says where its figures come from.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vggbench.errors import RecipeError
from vggbench.models.configs import Head, LocalResponseNormReading
from vggbench.models.preprocessing import CHANNELS, IMAGENET, LARGEST_SIDE, Preprocessing
from vggbench.models.spec import CLASSIFIER_WIDTH, MAX_SEED, ModelSpec, make_spec

FOLDER = Path(__file__).parent / "recipes"
MOST_EPOCHS = 10_000  # beyond it a number is a typing error, as are those below
LARGEST_BATCH = 65_536
_LONGEST_QUOTE = 60  # characters of a wrong value that say enough of it

Precision = Literal["fp32", "bf16", "fp16"]
Scale = Literal["0-1", "0-255"]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkTable(_Table):
    """Which network, as the options of the same names say it; `num_classes` is what the data must have, if given."""

    variant: str | None = None
    config: str | None = None
    batch_norm: bool | None = None
    local_response_norm: LocalResponseNormReading | None = None
    head: Head | None = None
    input_size: int | None = None
    classifier_width: int = CLASSIFIER_WIDTH
    num_classes: int | None = None
    dropout: Share = 0.5

    def spec(self, num_classes: int, seed: int) -> ModelSpec:
        """Return the spec for data of so many classes, with the published initialisation."""
        shape = self.model_dump(exclude={"num_classes", "dropout"})
        return make_spec(**shape, num_classes=num_classes, weights="init", seed=seed)


class ImagesTable(_Table):
    """How images become inputs, and which of them are kept apart.

    Attributes:
        resize, crop: as in `Preprocessing`, which is kept with the weights; None: to the network's input size.
        scale, mean, std: likewise.
        crop_padding: black pixels put around an input of the training before a window of its size is cut out of it.
        flip: whether half of the training's inputs are mirrored.
        validation_share: of the training images: kept apart, drawn by `validation_seed`.
    """

    resize: Annotated[int, Field(ge=1, le=LARGEST_SIDE)] | None = None
    crop: Annotated[int, Field(ge=1, le=LARGEST_SIDE)] | None = None
    scale: Scale = "0-1"
    mean: Annotated[tuple[float, ...], Field(min_length=CHANNELS, max_length=CHANNELS)] = IMAGENET.mean
    std: Annotated[tuple[Positive, ...], Field(min_length=CHANNELS, max_length=CHANNELS)] = IMAGENET.std
    crop_padding: Annotated[int, Field(ge=0, le=512)] = 0
    flip: bool = False
    validation_share: Share = 0.0
    validation_seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 42

    def preprocessing(self, input_size: int) -> Preprocessing:
        """Return the steps that every use of the weights needs."""
        sizes = {name: side or input_size for name, side in (("resize", self.resize), ("crop", self.crop))}
        return Preprocessing(**sizes, scale=self.scale, mean=self.mean, std=self.std)


class OptimizerTable(_Table):
    """Stochastic gradient descent.

    Attributes:
        decay: `coupled`, added to the gradient (L2), or `decoupled`, which takes `learning_rate * weight_decay` of each
            weight away beside the step (SGDW; Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019,
            in the form of PyTorch's AdamW).
        decay_of: all parameters, or only `weights`: those of convolutions and linear layers.
    """

    batch_size: Annotated[int, Field(ge=1, le=LARGEST_BATCH)] = 128
    learning_rate: Positive
    momentum: Share = 0.9
    nesterov: bool = False
    weight_decay: NotNegative = 0.0
    decay: Literal["coupled", "decoupled"] = "coupled"
    decay_of: Literal["all", "weights"] = "all"
    label_smoothing: Share = 0.0

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum")
        return self


class ConstantSchedule(_Table):
    """The learning rate stays."""

    kind: Literal["constant"]


class StepSchedule(_Table):
    """The learning rate is multiplied by `factor` at every so many-th step of the schedule.

    `stepped = "epoch-start"` counts before the first epoch already, so that the first drop comes an epoch sooner.
    """

    kind: Literal["step"]
    every_epochs: Annotated[int, Field(ge=1)]
    factor: Positive
    stepped: Literal["epoch-start", "epoch-end"]


class PlateauSchedule(_Table):
    """The learning rate is multiplied by `factor` once `patience` epochs and one more brought no lower loss."""

    kind: Literal["plateau"]
    factor: Annotated[float, Field(gt=0, lt=1)]
    patience: Annotated[int, Field(ge=0)]
    least_learning_rate: NotNegative = 0.0
    watched: Literal["validation_loss", "train_loss"] = "validation_loss"
    stepped: Literal["epoch-end"]


class OneCycleSchedule(_Table):
    """Up to the learning rate over the share `warmup` of all batches, then down; torch's `OneCycleLR`.

    Attributes:
        start_factor: the first rate over the highest.
        end_factor: the last rate over the highest.
    """

    kind: Literal["one-cycle"]
    warmup: Annotated[float, Field(gt=0, lt=1)]
    shape: Literal["cos", "linear"] = "cos"
    start_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    end_factor: Annotated[float, Field(gt=0, le=1)] = 1e-3
    stepped: Literal["batch"]


Schedule = Annotated[ConstantSchedule | StepSchedule | PlateauSchedule | OneCycleSchedule, Field(discriminator="kind")]


class Recipe(_Table):
    """Everything that decides the weights, but for the data, the machine and where the weights start.

    Attributes:
        reproduces: what the recipe is for, in a sentence.
        source: where its figures come from.
        precision: what forward and backward pass are computed in: fp32 without TF32, or torch's autocast.
        channels_last: the memory layout of the convolutions.
        saved_as: type of the numbers in the file of weights.
    """

    reproduces: str
    source: str
    network: NetworkTable
    images: ImagesTable = ImagesTable()
    optimizer: OptimizerTable
    schedule: Schedule
    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    precision: Precision = "fp32"
    channels_last: bool = False
    saved_as: Literal["fp32", "fp16"] = "fp32"

    @model_validator(mode="after")
    def _plateau_needs_what_it_watches(self) -> Self:
        watched = getattr(self.schedule, "watched", "train_loss")
        if watched == "validation_loss" and not self.images.validation_share:
            raise ValueError("the schedule watches validation_loss, and images.validation_share keeps no image apart")
        return self


def recipe_names() -> list[str]:
    """Return the names of vggbench's own recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_recipe(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Read one of vggbench's own recipes, or a file, with values laid over it: `{"optimizer.momentum": 0.8}`.

    Raises:
        RecipeError: names the recipe, the key and what was expected there.
    """
    path = FOLDER / f"{name}.toml" if name in recipe_names() else Path(name)
    data = _read_toml(name, path)
    for key, value in (changes or {}).items():
        _lay_over(data, key, value)
    return checked_recipe(data, name)


def checked_recipe(data: object, name: str) -> Recipe:
    """Return the recipe that plain data says; `RecipeError` names the key that is wrong."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"recipe {name}: {_complaint(error)}") from None


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """Read `KEY=VALUE` texts: the value as TOML has it, or else as text."""
    changes = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise RecipeError(f"{text[:_LONGEST_QUOTE]!r} is no KEY=VALUE, such as optimizer.momentum=0.8")
        changes[key.strip()] = _parse_value(value.strip())
    return changes


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _read_toml(name: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        own = ", ".join(recipe_names())
        raise RecipeError(f"recipe {name[:_LONGEST_QUOTE]!r} is neither a file nor one of {own}") from None
    except OSError as error:
        raise RecipeError(f"recipe {name[:_LONGEST_QUOTE]!r} cannot be read: {error.strerror}") from None
    except ValueError as error:  # of the syntax, the encoding, the path, or a number of thousands of digits
        raise RecipeError(f"recipe {name} is not TOML: {error}") from None
    except RecursionError:
        raise RecipeError(f"recipe {name} is not TOML that can be read: it is nested too deeply") from None


def _lay_over(data: dict[str, Any], key: str, value: Any) -> None:
    *tables, last = key.split(".")
    for table in tables:
        inner = data.setdefault(table, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"{key!r} is no key of a recipe: {table!r} is no table")
        data = inner
    data[last] = value


def _complaint(error: ValidationError) -> str:
    """Return the key of the first error, what was expected there, and what was given."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{key!r} is no key here"
    if first["type"] == "value_error":
        return f"{key}: {first['ctx']['error']}" if key else str(first["ctx"]["error"])
    given = f", not {repr(first['input'])[:_LONGEST_QUOTE]}" if first["type"] != "missing" else ""
    return f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}{given}"
