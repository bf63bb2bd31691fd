"""How long building a network, loading its weights and exporting it take."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from vggbench.artefacts.onnx import onnx_artefact
from vggbench.artefacts.weights import weights_artefact
from vggbench.models.spec import ModelSpec
from vggbench.models.weights import build_module, initial_state, load_module

ROUNDS = 3  # at least; of vgg16 one takes seconds, and the median ignores one disturbed


@pytest.mark.benchmark(min_rounds=ROUNDS)
def test_draw_weights(benchmark: Any, spec: ModelSpec) -> None:
    benchmark(initial_state, spec)


@pytest.mark.benchmark(min_rounds=ROUNDS)
def test_build_module(benchmark: Any, spec: ModelSpec) -> None:
    benchmark(build_module, spec, initial_state(spec))


@pytest.mark.benchmark(min_rounds=ROUNDS)
def test_load_weights(benchmark: Any, spec: ModelSpec, exports: Path) -> None:
    benchmark(load_module, spec, weights_artefact(spec, exports).path)


def test_export(benchmark: Any, spec: ModelSpec, exports: Path, tmp_path: Path) -> None:
    """From a weights file to a checked ONNX artefact, each time in a folder that has none."""
    weights = weights_artefact(spec, exports)
    folders = (tmp_path / str(number) for number in count())
    # The first export of a process imports the exporter; that is not what an export costs.
    benchmark.pedantic(
        onnx_artefact, setup=lambda: ((spec, next(folders), weights), {}), rounds=ROUNDS, warmup_rounds=1
    )
