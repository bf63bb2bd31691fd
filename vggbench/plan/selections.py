"""What is asked for, from the command line, Python or a TOML file. No torch, no onnx, no backend's library."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from vggbench.errors import PlanError, RequestError
from vggbench.models.description import described_network
from vggbench.models.network_file import Network, NetworkFile
from vggbench.models.spec import make_spec
from vggbench.plan.cells import LONGEST_BUDGET_S, MOST_REPLICAS, MOST_ROUNDS, MOST_STAGES

DEFAULT_VARIANT = "vgg16_bn"
_APART_FROM_THE_NETWORK = {"backend", "precision", "batch_size", "stage", "if_missing"}
_LONGEST_QUOTE = 60  # characters of a wrong value that say enough of it


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


Many = BeforeValidator(_as_list)


class Selection(BaseModel):
    """Lists whose product is a set of cells; a plan file has one a `[[cells]]` table."""

    model_config = ConfigDict(extra="forbid", strict=True)

    # What is not given is chosen; a list that is given and empty would choose everything without a word.
    variant: Annotated[list[str], Many] = Field(default_factory=list, min_length=1)
    config: Annotated[list[str], Many] = Field(default_factory=list, min_length=1)
    onnx: Annotated[list[str], Many] = Field(default_factory=list, min_length=1)
    backend: Annotated[list[str], Many] = Field(default_factory=list, min_length=1)
    precision: Annotated[list[str], Many] = Field(default_factory=list, min_length=1)
    keep_fp32: Annotated[list[str], Many] = Field(default_factory=list, min_length=1)  # together, not one a cell
    calibration: str | None = None
    calibration_method: str | None = None
    batch_size: Annotated[list[int], Many] = Field(default=[1], min_length=1)
    stage: int = Field(default=0, ge=0, le=MOST_STAGES)
    if_missing: Literal["refuse", "unsupported"] = "refuse"  # what a named backend that is not there is
    batch_norm: bool | None = None
    local_response_norm: str | None = None
    head: str | None = None
    input_size: int | None = None
    num_classes: int | None = None
    classifier_width: int | None = None
    outputs: str = "logits"
    weights: str = "random"
    weights_seed: int = 0

    def specs(self) -> list[Network]:
        """Return the networks that variants, configurations and ONNX files name."""
        if self.onnx and not self.variant and not self.config:
            self._refuse_shapes()
            return self._files()
        shape = self.model_dump(
            include={"batch_norm", "local_response_norm", "head", "input_size", "num_classes", "outputs", "weights"}
        )
        if self.classifier_width is not None:
            shape["classifier_width"] = self.classifier_width
        variants: list[str | None] = list(self.variant)
        if not self.variant and not self.config:
            variants = [None if described_network(self.weights) else DEFAULT_VARIANT]
        named = [make_spec(name, seed=self.weights_seed, **shape) for name in variants]
        return named + [make_spec(config=text, seed=self.weights_seed, **shape) for text in self.config] + self._files()

    def _files(self) -> list[Network]:
        if not self.onnx:
            return []
        from vggbench.artefacts.network_file import read_network_file

        return [read_network_file(name, self.input_size) for name in self.onnx]

    def _refuse_shapes(self) -> None:
        """Refuse what a file has settled already."""
        given = self.model_fields_set - _APART_FROM_THE_NETWORK - {"onnx", "input_size"}
        if given:
            raise RequestError(f"{', '.join(sorted(given))} cannot be chosen for an ONNX file: it has its own")

    def batch_sizes(self, network: Network) -> list[int]:
        """Return those asked for; a file that takes one only has that one where none is."""
        if isinstance(network, NetworkFile):
            return network.batch_sizes(self.batch_size, chosen="batch_size" in self.model_fields_set)
        return self.batch_size


class PlanFile(BaseModel):
    """The TOML file of `--plan`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rounds: int | None = Field(default=None, ge=1, le=MOST_ROUNDS)
    replicas: int | None = Field(default=None, ge=1, le=MOST_REPLICAS)
    time_budget_s: float | None = Field(default=None, gt=0, le=LONGEST_BUDGET_S)
    round_seconds: float | None = Field(default=None, gt=0, le=LONGEST_BUDGET_S)
    search_in_flight: bool | None = None
    threads: int | None = Field(default=None, ge=1)
    device: str | None = None
    seed: int | None = Field(default=None, ge=0)
    cells: list[Selection] = Field(min_length=1)


def read_plan_file(path: Path) -> PlanFile:
    """Read a plan; `PlanError` names the file, the key and what was expected there."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"plan {path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # of the syntax, the encoding, or a number of thousands of digits
        raise PlanError(f"plan {path} is not TOML: {error}") from None
    except RecursionError:
        raise PlanError(f"plan {path} is not TOML that can be read: it is nested too deeply") from None
    try:
        file = PlanFile.model_validate(data)
    except ValidationError as error:
        raise PlanError(f"plan {path}: {_complaint(error)}") from None
    if file.time_budget_s is not None and file.round_seconds is not None:
        raise PlanError(f"plan {path}: time_budget_s and round_seconds both say how long is measured; give one")
    return file


def _complaint(error: ValidationError) -> str:
    """Return the key of the first error, what was expected there, and what was given."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        model = PlanFile if error.title == PlanFile.__name__ and len(first["loc"]) == 1 else Selection
        return f"{key!r} is no key here; there are {', '.join(model.model_fields)}"
    given = repr(first["input"])
    shown = given if len(given) <= _LONGEST_QUOTE else given[:_LONGEST_QUOTE] + "..."
    said_already = first["type"] in {"missing", "too_short"}
    return f"{key}: {first['msg']}" + ("" if said_already else f", not {shown}")


def selection(chosen: Mapping[str, Any]) -> Selection:
    """Return a selection of values given in Python or on the command line; None is not given."""
    given = {name: _listed(value) for name, value in chosen.items() if value is not None}
    if "seed" in given:
        given["weights_seed"] = given.pop("seed")
    try:
        return Selection.model_validate(given)
    except ValidationError as error:
        raise RequestError(_complaint(error)) from None


def _listed(value: object) -> object:
    """Return a tuple, a range or the like as the list that a selection takes."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
