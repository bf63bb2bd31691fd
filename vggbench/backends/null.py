"""A backend that does nothing, to measure what the harness itself costs a request. numpy only.

Its outputs are zeros, so it never passes parity and never makes an `ok` row: benchmarks use its session directly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from vggbench.artefacts.artefact import Artefact
from vggbench.backends.base import (
    Available,
    Evidence,
    FileForm,
    LayerTime,
    Options,
    SessionContext,
    Support,
    TensorSpec,
    Unavailable,
)
from vggbench.models.spec import ModelSpec


class NullBackend:
    """The backend that does nothing."""

    name = "null"
    artefact_kind = "script"
    option_values: Mapping[str, tuple[str, ...]] = {}

    def availability(self, device: str) -> Available | Unavailable:
        """Be there, on the CPU."""
        return Available("1") if device == "cpu" else Unavailable(f"null has no {device}", "use --device cpu")

    def supports(self, precision: str, device: str) -> Support:  # noqa: ARG002 - it computes nothing
        """Support everything equally little."""
        return Support(True)

    def file_form(self, precision: str, options: Options) -> FileForm:  # noqa: ARG002 - it looks into none
        """Take the script, whatever the precision."""
        return FileForm()

    def open(
        self,
        artefact: Artefact,
        *,
        device: str,  # noqa: ARG002
        precision: str,  # noqa: ARG002
        batch_size: int,
        threads: int,  # noqa: ARG002
        in_flight: int,
        options: Options,  # noqa: ARG002
    ) -> NullSession:
        """Open a session on the spec's shapes."""
        spec = ModelSpec.from_json(artefact.spec)
        return NullSession((batch_size, 3, spec.input_size, spec.input_size), spec.num_classes, in_flight)


class NullSession(SessionContext):
    """Requests that are over as soon as they start."""

    timeline = "host"

    def __init__(self, input_shape: tuple[int, ...], classes: int, in_flight: int) -> None:
        self.slots = in_flight
        self.input_spec = TensorSpec("input", "float32", input_shape)
        self.output_spec = TensorSpec("logits", "float32", (input_shape[0], classes))

    def stage(self, slot: int, batch: NDArray[np.float32]) -> None:
        """Do nothing."""

    def enqueue(self, slot: int) -> None:
        """Do nothing."""

    def wait(self, slot: int) -> None:
        """Do nothing."""

    def fetch(self, slot: int) -> NDArray[np.float32]:  # noqa: ARG002 - every slot has the same zeros
        """Return zeros."""
        return np.zeros(self.output_spec.shape, dtype=np.float32)

    def evidence(self) -> Evidence:
        """Say that nothing ran."""
        return Evidence(device="none", threads=0, batch_size=0, layers=(), placements={})

    def layer_times(self, run: Callable[[], None], requests: int) -> tuple[LayerTime, ...]:
        """Make the requests; nothing runs in them."""
        for _ in range(requests):
            run()
        return ()


BACKEND = NullBackend()
