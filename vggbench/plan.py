"""What is to be measured: selections from the command line or a TOML file, expanded into cells.

No torch, no onnx, no backend's library: which backends are there is told by probes made elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError

from vggbench.backends.base import PRECISIONS
from vggbench.backends.registry import DEFAULT_BACKENDS, check_options, find_backend
from vggbench.errors import NothingToJudge, PlanError, RequestError
from vggbench.models.network_file import Network, NetworkFile
from vggbench.models.spec import ModelSpec, make_spec

DEFAULT_VARIANT = "vgg16_bn"
DEFAULT_ROUNDS = 6  # the fewest from which a 95 % signed-rank interval exists
DEFAULT_ROUND_SECONDS = 2.5  # with process starts and parity, the default plan then stays under 5 minutes on two cores
LARGEST_BATCH = 4096
MOST_IN_FLIGHT = 4  # beyond this the requests only share the same cores in thinner slices
MOST_THREADS = 8192  # processors that Linux is built for at most; cells are chosen by what is here
MOST_ROUNDS = 1000  # half a million pairs for the Hodges-Lehmann estimate; beyond it a number is a typing error
LONGEST_BUDGET_S = 7 * 24 * 3600.0  # a week; likewise
_LONGEST_QUOTE = 60  # characters of a wrong value that say enough of it


def _kind(spec: object) -> str:
    return "onnx" if isinstance(spec, Mapping) and "path" in spec else "vgg"


# As in a stored plan; a field that is missing there is missed in the right one of the two.
_Network = Annotated[Annotated[ModelSpec, Tag("vgg")] | Annotated[NetworkFile, Tag("onnx")], Discriminator(_kind)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One point of the plan.

    Attributes:
        threads: total over the slots.
        in_flight: slots of the throughput session.
        unsupported: why the cell is not run; empty if it is.
    """

    spec: _Network
    backend: str
    options: Mapping[str, str]
    precision: str
    device: str
    batch_size: Annotated[int, Field(ge=1, le=LARGEST_BATCH)]
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)]
    in_flight: Annotated[int, Field(ge=1, le=MOST_IN_FLIGHT)]
    unsupported: str = ""

    @property
    def id(self) -> str:
        """12 hex characters that name the cell: the same request has the same id on every machine."""
        identity = {
            "spec": self.spec.digest(),
            **{name: getattr(self, name) for name in ("backend", "precision", "device", "batch_size", "threads")},
            "options": dict(self.options),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def title(self) -> str:
        """A short name for progress and errors."""
        return " ".join(
            [self.spec.variant, self.backend, *format_options(self.options), self.precision, f"batch {self.batch_size}"]
        )


def format_options(options: Mapping[str, str]) -> list[str]:
    """Return options as `name=value` texts, sorted."""
    return [f"{name}={value}" for name, value in sorted(options.items())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Cells, and how they are measured: fixed before the first round.

    Attributes:
        round_seconds: measuring time of one round of one cell.
        seed: of the order of rounds and images.
        timeout_s: how much longer than it measures a worker may take to answer before it is killed.
    """

    # The limits, here and in `Cell`, are those that a stored plan must keep.
    cells: Annotated[tuple[Cell, ...], Field(min_length=1)]
    rounds: Annotated[int, Field(ge=1, le=MOST_ROUNDS)]
    round_seconds: Annotated[float, Field(gt=0, le=LONGEST_BUDGET_S, allow_inf_nan=False)]
    seed: Annotated[int, Field(ge=0)]
    timeout_s: Annotated[float, Field(gt=0, le=LONGEST_BUDGET_S, allow_inf_nan=False)]


class Probe(Protocol):
    """What is known of a backend on this machine; `measure.client.BackendProbe` is one."""

    @property
    def available(self) -> bool:
        """Say whether the library can be used."""
        ...

    @property
    def reason(self) -> str:
        """Return why not."""
        ...

    @property
    def remedy(self) -> str:
        """Return what to do about it."""
        ...

    @property
    def precisions(self) -> Mapping[str, str]:
        """Return for each precision why it is not native; empty text if it is."""
        ...


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
    batch_size: Annotated[list[int], Many] = Field(default=[1], min_length=1)
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
        variants = self.variant or ([] if self.config else [DEFAULT_VARIANT])
        named = [make_spec(name, seed=self.weights_seed, **shape) for name in variants]
        return named + [make_spec(config=text, seed=self.weights_seed, **shape) for text in self.config] + self._files()

    def _files(self) -> list[Network]:
        if not self.onnx:
            return []
        from vggbench.artefacts.network_file import read_network_file

        return [read_network_file(name, self.input_size) for name in self.onnx]

    def _refuse_shapes(self) -> None:
        """Refuse what a file has settled already."""
        given = self.model_fields_set - {"onnx", "backend", "precision", "batch_size", "input_size"}
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
    time_budget_s: float | None = Field(default=None, gt=0, le=LONGEST_BUDGET_S)
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
        return PlanFile.model_validate(data)
    except ValidationError as error:
        raise PlanError(f"plan {path}: {_complaint(error)}") from None


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


def expand(
    selections: Iterable[Selection], *, device: str, threads: int, probe: Callable[[str], Probe]
) -> tuple[Cell, ...]:
    """Return the cells of all selections, each once, in their order.

    Backends that are not named are the default ones that are available; precisions that are not named are those native
    to backend and device. What is named and not there is an error (backend) or an unsupported cell (precision).
    """
    cells: dict[str, Cell] = {}
    # All of them before the first probe, which takes seconds.
    checked = [(selection, _checked_specs(selection)) for selection in selections]
    for selection, specs in checked:
        for cell in _expand_one(selection, specs, device, threads, probe):
            cells.setdefault(cell.id, cell)
    if not cells:
        raise NothingToJudge(f"no backend is available on {device}; `vggbench doctor` says why")
    return tuple(cells.values())


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


def find_cells(
    selections: Iterable[Selection], *, device: str, threads: int | None
) -> tuple[tuple[Cell, ...], dict[str, str]]:
    """Probe this machine's backends and return the cells, and the versions of the backends in them."""
    from vggbench.environment import default_threads
    from vggbench.measure.client import probe

    _check_device(device)
    chosen_threads = default_threads() if threads is None else threads
    _check_threads(chosen_threads)
    probed = cache(lambda name: probe(name, device))
    cells = expand(selections, device=device, threads=chosen_threads, probe=probed)
    return cells, {name: probed(name).version for name in sorted({cell.backend for cell in cells})}


def _check_device(device: str) -> None:
    if device != "cpu":
        raise RequestError(f"device {device!r} cannot be measured: backends run on the CPU so far; use cpu")


def _check_threads(threads: int) -> None:
    """Refuse more threads than this process has: they would only take turns."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not 1 <= threads <= usable:
        raise RequestError(f"threads is {threads}; this process may use from 1 to {usable}")


def _checked_specs(selection: Selection) -> list[Network]:
    _check_batch_sizes(selection.batch_size)
    for precision in selection.precision:
        if precision not in PRECISIONS:
            raise RequestError(f"unknown precision {precision!r}; it can be {', '.join(PRECISIONS)}")
    specs = selection.specs()
    for spec in specs:
        _check_batch_sizes(selection.batch_sizes(spec))
    return specs


def _check_batch_sizes(sizes: Iterable[int]) -> None:
    for size in sizes:
        if not 1 <= size <= LARGEST_BATCH:
            raise RequestError(f"batch size is {size}; it must be from 1 to {LARGEST_BATCH}")


def _expand_one(
    selection: Selection, specs: list[Network], device: str, threads: int, probe: Callable[[str], Probe]
) -> Iterable[Cell]:
    openable = [name for name in DEFAULT_BACKENDS if any(not _closed(name, spec) for spec in specs)]
    backends = selection.backend or openable
    usable = list(_backends(backends, device, probe, asked=bool(selection.backend)))
    for spec, (name, options, known) in product(specs, usable):
        closed = _closed(name, spec)
        if closed and not selection.backend:
            continue
        native = [precision for precision in PRECISIONS if not known.precisions.get(precision, "unknown")]
        for precision, size in product(selection.precision or native, selection.batch_sizes(spec)):
            yield Cell(
                spec=spec,
                backend=name,
                options=options,
                precision=precision,
                device=device,
                batch_size=size,
                threads=threads,
                in_flight=_in_flight(threads),
                unsupported=closed or known.precisions.get(precision, f"{name} does not know {precision}"),
            )


def _closed(backend: str, spec: Network) -> str:
    """Return why a backend cannot run the network at all; empty if it can."""
    if not isinstance(spec, NetworkFile) or find_backend(parse_backend(backend)[0]).artefact_kind == "onnx":
        return ""
    return f"{backend} opens no ONNX file; measure it with onnxruntime or openvino"


def _in_flight(threads: int) -> int:
    """Return the most requests in flight that share the threads evenly: no backend then has more of them in use."""
    return max(count for count in range(1, MOST_IN_FLIGHT + 1) if threads % count == 0)


def _backends(
    names: Sequence[str], device: str, probe: Callable[[str], Probe], *, asked: bool
) -> Iterable[tuple[str, dict[str, str], Probe]]:
    parsed = [parse_backend(text) for text in names]
    named = [(name, check_options(find_backend(name), options)) for name, options in parsed]
    for name, options in named:
        known = probe(name)
        if known.available:
            yield name, options, known
        elif asked:
            raise RequestError(f"backend {name} cannot be used on {device}: {known.reason}; {known.remedy}")


def parse_backend(text: str) -> tuple[str, dict[str, str]]:
    """Split `torch:memory_format=channels_last` into the backend's name and its options."""
    name, *settings = text.split(":")
    options: dict[str, str] = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator or not key or not value:
            raise RequestError(f"backend {text!r}: write options as {name}:name=value")
        if key in options:
            raise RequestError(f"backend {text!r}: option {key} is given twice; name the backend twice to measure both")
        options[key] = value
    return name, options


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much is measured: rounds, and either the whole run's measuring time or the default."""

    rounds: int = DEFAULT_ROUNDS
    time_budget_s: float | None = None
    seed: int = 0
    timeout_s: float = field(default=600.0)  # the largest variant, batch 64, on one slow core stays under it

    def plan(self, cells: tuple[Cell, ...]) -> Plan:
        """Return the plan: the budget is shared equally by all rounds of all cells that run."""
        if not 1 <= self.rounds <= MOST_ROUNDS:
            limits = f"from 1, or {DEFAULT_ROUNDS} for an interval, to {MOST_ROUNDS}"
            raise RequestError(f"rounds is {self.rounds}; it must be {limits}")
        running = sum(not cell.unsupported for cell in cells)
        seconds = DEFAULT_ROUND_SECONDS
        if self.time_budget_s is not None:
            if not 0 < self.time_budget_s <= LONGEST_BUDGET_S:
                limit = f"more than 0 and at most {LONGEST_BUDGET_S:.0f}"
                raise RequestError(f"time budget is {self.time_budget_s:g} s; it must be {limit}")
            seconds = self.time_budget_s / max(1, running * self.rounds)
        return Plan(cells=cells, rounds=self.rounds, round_seconds=seconds, seed=self.seed, timeout_s=self.timeout_s)
