"""A small network's artefacts, made once, for every backend's contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from vggbench.artefacts.quantization import QUANTIZED_PRECISIONS, Calibration
from vggbench.backends.base import Session, Unavailable
from vggbench.backends.registry import REAL_BACKENDS, check_options, find_backend
from vggbench.models.layers import mac_layers
from vggbench.models.spec import ModelSpec, make_spec
from vggbench.plan import Cell, parse_backend
from vggbench.preparation import Materials, materials

SPEC = make_spec(
    config="16,M,32,M,32,32@1,M,64,M,64,M", batch_norm=True, classifier_width=96, num_classes=10, input_size=64
)
# Every layer is seconds of a compiler's time for each session that is opened otherwise.
COMPILED_SPEC = make_spec(config="16,M,32@1,M", batch_norm=True, classifier_width=96, num_classes=10, input_size=32)
THREADS = 2


@dataclass(frozen=True)
class Opener:
    """Opens sessions of one backend in one precision on the small network."""

    backend: str
    precision: str
    spec: ModelSpec
    found: Materials
    options: Mapping[str, str]
    device: str = "cpu"

    def __call__(self, *, batch_size: int = 2, in_flight: int = 1, **options: str) -> Session:
        backend = find_backend(self.backend)
        return backend.open(
            self.found.artefact,
            device=self.device,
            precision=self.precision,
            batch_size=batch_size,
            threads=THREADS,
            in_flight=in_flight,
            options=check_options(backend, {**self.options, **options}, self.device),
        )

    @property
    def inputs(self) -> np.ndarray:
        with np.load(self.found.reference.path) as arrays:
            return arrays["inputs"]

    @property
    def logits(self) -> np.ndarray:
        with np.load(self.found.reference.path) as arrays:
            return arrays["logits"]

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in mac_layers(self.spec))


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


COMPILES = "torch-compile"  # takes each session seconds to open
# What is the same whether or not bf16 files are typed.
SAME = {("openvino:bf16=typed", "int8"), ("openvino:bf16=typed", "fp8")}


def _is_slow(name: str, precision: str) -> bool:
    return name == COMPILES or (name == "onnx-reference" and precision in QUANTIZED_PRECISIONS)


CASES = [
    pytest.param(
        (name, precision), id=f"{name}-{precision}", marks=[pytest.mark.slow] if _is_slow(name, precision) else []
    )
    for name in (*REAL_BACKENDS, "openvino:bf16=typed", "fake")
    for precision in ("fp32", "fp16", "bf16", "int8", "fp8")
    if (name, precision) not in {(COMPILES, "fp16"), ("openvino:bf16=typed", "fp32")} | SAME
]


def make_opener(text: str, precision: str, exports: Path, device: str = "cpu") -> Opener:
    """Return it for a backend with its options, or skip with the reason why there is none."""
    name, options = parse_backend(text)
    backend = find_backend(name)
    state = backend.availability(device)
    if isinstance(state, Unavailable):
        pytest.skip(f"{name}: {state.reason}")
    support = backend.supports(precision, device)
    if not support.supported:
        pytest.skip(f"{name}: {support.reason}")
    spec = COMPILED_SPEC if name == COMPILES else SPEC
    cell = Cell(
        spec=spec,
        backend=name,
        options=options,
        precision=precision,
        device=device,
        batch_size=2,
        threads=THREADS,
        in_flight=2,
        export_options=Calibration(images=8).options if precision in QUANTIZED_PRECISIONS else {},
    )
    return Opener(name, precision, spec, materials(cell, exports), options, device)


@pytest.fixture(params=CASES)
def opener(request: pytest.FixtureRequest, exports: Path) -> Opener:
    return make_opener(*request.param, exports)
