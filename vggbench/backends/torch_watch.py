"""What each module of a torch network takes while it runs. Imports torch inside its functions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vggbench.backends.base import LayerTime

if TYPE_CHECKING:
    import torch


class ModuleWatch:
    """Stopwatches around the modules of a network that have no others in them, each of which runs once a request.

    Hooks rather than torch's profiler, which knows operators and not whose they are. Where work is queued on a device,
    each module waits for its end: exact for the module, and slower for the request.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self._modules = [(name, layer) for name, layer in network.named_modules() if not any(layer.children())]
        self._started_ns = 0
        self._found: dict[str, tuple[list[int], int]] = {name: ([], 0) for name, _ in self._modules}
        self._hooks: list[Any] = []

    def __enter__(self) -> ModuleWatch:
        for name, layer in self._modules:
            self._hooks.append(layer.register_forward_pre_hook(self._start))
            self._hooks.append(layer.register_forward_hook(self._stopper(name)))
        return self

    def __exit__(self, *_exc: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _start(self, _layer: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        _finish(inputs[0])
        self._started_ns = time.perf_counter_ns()

    def _stopper(self, name: str) -> Callable[[Any, Any, torch.Tensor], None]:
        def stop(_layer: Any, _inputs: Any, output: torch.Tensor) -> None:
            _finish(output)
            self._found[name][0].append(time.perf_counter_ns() - self._started_ns)
            self._found[name] = self._found[name][0], output.numel()

        return stop

    def layer_times(self) -> tuple[LayerTime, ...]:
        """Return the modules that have run, in the network's order."""
        import torch

        times = []
        for name, layer in self._modules:
            samples, outputs = self._found[name]
            product = isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear))
            times.append(
                LayerTime(
                    name=name,
                    operation=type(layer).__name__,
                    macs=outputs * math.prod(layer.weight.shape[1:]) if product else 0,
                    weights=layer.weight.numel() if product else 0,
                    samples_ns=tuple(samples),
                )
            )
        return tuple(found for found in times if found.samples_ns)


def _finish(tensor: torch.Tensor) -> None:
    """Wait for a device that works through a queue."""
    import torch

    if tensor.device.type != "cpu":
        torch.accelerator.synchronize()
