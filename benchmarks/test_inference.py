"""One request of the small network on every backend, as a latency block runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL

from vggbench.backends.base import Unavailable
from vggbench.backends.registry import REAL_BACKENDS, check_options, find_backend
from vggbench.environment import default_threads
from vggbench.plan import Cell
from vggbench.preparation import materials


@pytest.mark.parametrize("name", REAL_BACKENDS)
def test_infer(benchmark: Any, name: str, exports: Path) -> None:
    backend = find_backend(name)
    state = backend.availability("cpu")
    if isinstance(state, Unavailable):
        pytest.skip(f"{name}: {state.reason}")
    shared = {
        "device": "cpu",
        "precision": "fp32",
        "batch_size": 1,
        "threads": default_threads(),
        "in_flight": 1,
        "options": check_options(backend, {}),
    }
    found = materials(Cell(spec=SMALL, backend=name, **shared), exports)
    with backend.open(found.artefact, **shared) as session:
        session.stage(0, np.random.default_rng(0).standard_normal(session.input_spec.shape, dtype=np.float32))

        def request() -> None:
            session.enqueue(0)
            session.wait(0)

        benchmark(request)
