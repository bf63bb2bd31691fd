"""A tiny network on the fake backend: cells, plans, requests, probes, and a worker inside the test's own process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

from vggbench.backends.registry import check_options, find_backend
from vggbench.gate.preparing import prepare
from vggbench.gate.sides import PREPARING
from vggbench.measure import worker
from vggbench.measure.client import WORKER_MODULE, BackendProbe, WorkerFailure
from vggbench.measure.request import RoundRequest, Timing
from vggbench.measure.worker import answer, obey
from vggbench.models.spec import ModelSpec, make_spec
from vggbench.plan import Cell, Plan
from vggbench.preparation import materials

# The same network on the command line.
ARGUMENTS = ("--config", "8,M,16,M", "--input-size", "32", "--num-classes", "5", "--classifier-width", "16")
SPEC = make_spec(config="8,M,16,M", input_size=32, num_classes=5, classifier_width=16)
ROUND_SECONDS = 0.05  # of scripted time
TIMEOUT_S = 60.0


def fake_cell(
    *,
    backend: str = "fake",
    spec: ModelSpec = SPEC,
    precision: str = "fp32",
    batch_size: int = 2,
    threads: int = 2,
    unsupported: str = "",
    **options: str,
) -> Cell:
    return Cell(
        spec=spec,
        backend=backend,
        options=check_options(find_backend(backend), options),
        precision=precision,
        device="cpu",
        batch_size=batch_size,
        threads=threads,
        in_flight=threads,
        unsupported=unsupported,
    )


def fake_plan(*cells: Cell, rounds: int = 1, timeout_s: float = TIMEOUT_S) -> Plan:
    return Plan(cells=cells, rounds=rounds, round_seconds=ROUND_SECONDS, seed=0, timeout_s=timeout_s)


def fake_request(cell: Cell, exports: Path, **changes: Any) -> RoundRequest:
    found = materials(cell, exports)
    values: dict[str, Any] = {
        "cell_id": cell.id,
        "round": 0,
        "backend": cell.backend,
        "device": cell.device,
        "precision": cell.precision,
        "batch_size": cell.batch_size,
        "threads": cell.threads,
        "in_flight": cell.in_flight,
        "options": cell.options,
        "artefact": found.artefact.to_json(),
        "reference": str(found.reference.path),
        "reference_sha256": found.reference.files[found.reference.main],
        "tolerance": found.tolerance,
        "timing": Timing.of_seconds(ROUND_SECONDS),
        "seed": 0,
        "timeout_s": TIMEOUT_S,
    }
    return RoundRequest(**{**values, **changes})


def known(name: str, precisions: dict[str, str] | None = None) -> BackendProbe:
    native = {"fp32": "", "bf16": ""} if precisions is None else precisions
    return BackendProbe(name=name, available=True, version="1", reason="", remedy="", precisions=native)


def missing(name: str) -> BackendProbe:
    return BackendProbe(
        name=name, available=False, version="", reason=f"{name} is not installed", remedy="install it", precisions={}
    )


class InlineWorker:
    """Stands where `WorkerClient` does and speaks the same protocol, in this process and at once."""

    def __init__(
        self,
        *,
        python: str = "",
        timeout_s: float = 0.0,
        module: str = WORKER_MODULE,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._worker = worker.Worker()
        self._obey = partial(obey, {"prepare": prepare}) if module == PREPARING else partial(answer, self._worker)
        self.pid = 0

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        harmful = {"crash", "segfault", "garbage", "hang"}
        assert arguments.get("options", {}).get("fault") not in harmful, "that would be this process's end"
        line = json.dumps({"command": command, **arguments})
        message = json.loads(json.dumps(worker.without_nonfinite(self._obey(line)), allow_nan=False))
        if not message["ok"]:
            raise WorkerFailure(command, "failed", f"{message['kind']}: {message['message']}")
        return dict(message["result"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._worker.close()
