"""Which device is measured: the one asked for, or a GPU where there is one. No torch, no backend's library.

A GPU that is here and cannot be used is an error and never a quiet measurement of the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from vggbench.backends.registry import runs_on
from vggbench.environment.gpus import are_hidden, canonical_device, seen_gpus
from vggbench.errors import RequestError

CPU, GPU = "cpu", "cuda"
# Computes on whatever any other backend could: they all work on torch's tensors and streams.
_ARBITER = "torch"


class Probe(Protocol):
    """What is known of a backend on a device; `measure.client.BackendProbe` is one."""

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


def known_device(text: str) -> str:
    """Return a device by its one name, `cuda:0` being `cuda`; `RequestError` for what is none."""
    device = canonical_device(text)
    if device is None:
        raise RequestError(f"device {text!r} cannot be measured: it can be cpu, cuda, or cuda:1 and so on")
    return device


def choose_device(asked: str | None, backends: Iterable[str], probe: Callable[[str, str], Probe]) -> str:
    """Return the device asked for, or else a GPU where one is seen that a backend is for.

    `backends` are the names that were given, none if all may be measured; `probe` takes a backend's name and a device.
    `RequestError` where a GPU is asked for and cannot be used, or is seen and cannot be used.
    """
    device = _default(list(backends)) if asked is None else known_device(asked)
    if device == CPU:
        return CPU
    seen = seen_gpus()
    if seen is None:
        raise RequestError(
            f"device {device!r} cannot be measured: no NVIDIA GPU is seen here; install NVIDIA's driver where there is "
            f"one, or measure the CPU with --device cpu"
        )
    found = probe(_ARBITER, device)
    if not found.available:
        what = f"device {device!r}" if asked is not None else f"{seen.text}, is here and"
        raise RequestError(f"{what} cannot be measured: {found.reason}; {found.remedy}")
    return device


def _default(backends: list[str]) -> str:
    on_cpu = [runs_on(name, CPU) for name in backends]
    on_gpu = [runs_on(name, GPU) for name in backends]
    if backends and not any(on_cpu):
        return GPU
    if backends and not any(on_gpu):
        return CPU
    return GPU if seen_gpus() is not None and not are_hidden() else CPU
