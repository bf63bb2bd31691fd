"""What is known of a machine, as plain data. Standard library only.

`None` is "could not be read here", never "no": an empty tuple or 0 was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Processor, memory and GPUs, and how much of them this process may use.

    Attributes:
        physical_cores: cores of the whole machine, hardware threads not counted.
        usable_logical_cores: hardware threads in this process's affinity mask.
        usable_cores: physical cores behind that mask, no more than the cgroup's quota: the default number of threads.
        cgroup_cpu_quota: CPU seconds the cgroup grants per second; None without a limit.
        caches: bytes by name (`L1d`, `L2`, `L3`) as the first usable core sees them.
        cpu_flags: instruction sets that decide how fast a precision runs, of those named in `cpu.PRECISION_FLAGS`.
        hybrid: whether the usable cores are of different kinds (performance and efficiency cores).
        gpus: model names of NVIDIA GPUs in the driver's order.
    """

    cpu_model: str
    architecture: str
    physical_cores: int | None
    logical_cores: int | None
    usable_logical_cores: int
    usable_cores: int
    cgroup_cpu_quota: float | None
    memory_total_bytes: int
    memory_available_bytes: int
    cgroup_memory_limit_bytes: int | None
    caches: Mapping[str, int]
    cpu_flags: tuple[str, ...] | None
    hybrid: bool | None
    gpus: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Operating system, Python and driver; `driver` is the NVIDIA kernel driver's version."""

    os: str
    kernel: str
    python: str
    python_implementation: str
    driver: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What went on beside this process in a short window.

    Attributes:
        other_cpu_cores: cores kept busy by anything but this process and its children.
        busiest: names of the processes that used most of it; empty where none is visible from here.
        steal_percent: share of the machine's CPU time that the hypervisor gave to somebody else.
    """

    other_cpu_cores: float
    busiest: tuple[str, ...]
    steal_percent: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseFacts:
    """What was read about the machine's quietness, before it is judged.

    Attributes:
        load_average_1min: runnable and waiting threads, this process's own included.
        governors: the frequency governors in force, each once.
        throttled_periods: scheduler periods in which the cgroup ran into its CPU quota, since the cgroup began.
    """

    load_average_1min: float | None
    activity: Activity
    governors: tuple[str, ...] | None
    turbo: bool | None
    throttled_periods: int | None
    throttled_s: float | None
    hypervisor: bool | None
    swap_used_bytes: int | None


@dataclass(frozen=True, slots=True)
class NoiseSource:
    """Something that disturbs timings: a name, a plain sentence, and what to do about it."""

    name: str
    sentence: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Everything about the machine and its software that a figure depends on.

    Attributes:
        libraries: version by distribution name; None where it is not installed.
        variables: environment variables that change how libraries compute: `software.library_variables`.
        commit: of the source checkout vggbench runs from, `-dirty` added if it has changes; None if it is none.
    """

    hardware: Hardware
    system: System
    libraries: Mapping[str, str | None]
    variables: Mapping[str, str]
    commit: str | None
    noise: NoiseFacts
    noise_sources: tuple[NoiseSource, ...]
    distribution_conflicts: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return dictionaries, lists and scalars only; `comparable` takes two of them."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def _plain(value: object) -> object:
    """Turn tuples into lists, so that the data equals what JSON gives back."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
