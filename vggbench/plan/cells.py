"""Cells, and the plan that is made of them: fixed before the first round. No torch, no onnx, no backend's library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import Discriminator, Field, Tag

from vggbench.artefacts.quantization import identity_of, shown_options
from vggbench.data.source import DataSource
from vggbench.errors import RequestError
from vggbench.models.network_file import NetworkFile
from vggbench.models.spec import ModelSpec

DEFAULT_ROUNDS = 6  # the fewest from which a 95 % signed-rank interval exists
DEFAULT_ROUND_SECONDS = 2.5  # with process starts and parity, the default plan then stays under 5 minutes on two cores
# Of a GPU where nothing is chosen: a start, an opening or a compilation takes seconds there, a request does not.
GPU_ROUNDS, GPU_BUDGET_S, GPU_BATCH_SIZES = 2, 80.0, (1, 8, 32)
LARGEST_BATCH = 4096
MOST_IN_FLIGHT = 4  # beyond this the requests only share the same cores in thinner slices
MOST_THREADS = 8192  # processors that Linux is built for at most; cells are chosen by what is here
MOST_ROUNDS = 1000  # half a million pairs for the Hodges-Lehmann estimate; beyond it a number is a typing error
MOST_REPLICAS = 100  # thousands of pairs of equal cells; beyond it a number is a typing error
MOST_STAGES = 100  # more than a plan has tables; beyond it a number is a typing error
LONGEST_BUDGET_S = 7 * 24 * 3600.0  # a week; likewise


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
        replica: its number among equal cells, from 1; 0 where it is the only one.
        source: the data set whose images are shown; None where they are synthetic.
        export_options: what else decides the file that is opened; empty where nothing does.
        stage: cells of a lower one are measured to their last round first; no part of what the cell is.
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
    replica: Annotated[int, Field(ge=0, le=MOST_REPLICAS)] = 0
    source: DataSource | None = None
    export_options: Mapping[str, str] = field(default_factory=dict)
    stage: Annotated[int, Field(ge=0, le=MOST_STAGES)] = 0

    @property
    def id(self) -> str:
        """12 hex characters that name the cell: the same request has the same id on every machine."""
        identity = {
            "spec": self.spec.digest(),
            **{name: getattr(self, name) for name in ("backend", "precision", "device", "batch_size", "threads")},
            "options": dict(self.options),
        }
        if self.replica:
            identity["replica"] = self.replica
        if self.source:
            identity["source"] = self.source.sha256
        if self.export_options:
            identity["export_options"] = identity_of(self.export_options)
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def title(self) -> str:
        """A short name for progress and errors."""
        words = [self.spec.variant, self.backend, *format_options(self.options), self.precision]
        words += format_options(shown_options(self.export_options))
        return " ".join([*words, f"batch {self.batch_size}", *([f"replica {self.replica}"] if self.replica else [])])


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
        search_in_flight: whether several requests in flight are tried on each cell before its rounds.
    """

    # The limits, here and in `Cell`, are those that a stored plan must keep.
    cells: Annotated[tuple[Cell, ...], Field(min_length=1)]
    rounds: Annotated[int, Field(ge=1, le=MOST_ROUNDS)]
    round_seconds: Annotated[float, Field(gt=0, le=LONGEST_BUDGET_S, allow_inf_nan=False)]
    seed: Annotated[int, Field(ge=0)]
    timeout_s: Annotated[float, Field(gt=0, le=LONGEST_BUDGET_S, allow_inf_nan=False)]
    search_in_flight: bool = True


def replicate(cells: Iterable[Cell], replicas: int) -> tuple[Cell, ...]:
    """Return each cell so many times, numbered from 1, for rows of the same thing; one that is not run only once."""
    return tuple(
        replace(cell, replica=number)
        for cell in cells
        for number in (range(1, replicas + 1) if replicas > 1 and not cell.unsupported else [0])
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much is measured: rounds, how often each cell, and a round's or the whole run's time.

    Attributes:
        time_budget_s: measuring time of the whole run, shared by all rounds; it goes before `round_seconds`.
    """

    rounds: int = DEFAULT_ROUNDS
    replicas: int = 1
    time_budget_s: float | None = None
    round_seconds: float = DEFAULT_ROUND_SECONDS
    seed: int = 0
    timeout_s: float = field(default=600.0)  # the largest variant, batch 64, on one slow core stays under it
    search_in_flight: bool = True

    def plan(self, cells: tuple[Cell, ...]) -> Plan:
        """Return the plan: the budget is shared equally by all rounds of all cells that run."""
        if not 1 <= self.rounds <= MOST_ROUNDS:
            limits = f"from 1, or {DEFAULT_ROUNDS} for an interval, to {MOST_ROUNDS}"
            raise RequestError(f"rounds is {self.rounds}; it must be {limits}")
        if not 1 <= self.replicas <= MOST_REPLICAS:
            raise RequestError(f"replicas is {self.replicas}; it must be from 1 to {MOST_REPLICAS}")
        cells = replicate(cells, self.replicas)
        running = sum(not cell.unsupported for cell in cells)
        seconds = self.round_seconds
        if self.time_budget_s is not None:
            if not 0 < self.time_budget_s <= LONGEST_BUDGET_S:
                limit = f"more than 0 and at most {LONGEST_BUDGET_S:.0f}"
                raise RequestError(f"time budget is {self.time_budget_s:g} s; it must be {limit}")
            seconds = self.time_budget_s / max(1, running * self.rounds)
        return Plan(
            cells=cells,
            rounds=self.rounds,
            round_seconds=seconds,
            seed=self.seed,
            timeout_s=self.timeout_s,
            search_in_flight=self.search_in_flight,
        )
