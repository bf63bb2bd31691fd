"""Whether damage changes the function, told in float64, and whether the parity check sees it in every backend.

The torch backend runs the changed chain, the others a damaged copy of the exported file. What PyTorch does not compute
in here it imitates in fp32, as an engine of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tests.parity.chain import Chain, ChainModule, cast_products, chain_of, run
from tests.parity.damage import Mutation
from tests.parity.damaged_file import ExportedFile
from tests.parity.score import Engine, Score
from vggbench.artefacts.onnx import onnx_artefact
from vggbench.artefacts.weights import weights_artefact
from vggbench.backends.base import PRECISIONS, Available, Session
from vggbench.backends.registry import find_backend
from vggbench.backends.torch_eager import Network, TorchSession
from vggbench.models.layers import mac_layers
from vggbench.models.spec import ModelSpec
from vggbench.models.weights import load_module
from vggbench.parity.check import Verdict, check
from vggbench.parity.metrics import compare
from vggbench.parity.own_error import EMULATED_PRECISIONS, emulate
from vggbench.parity.reference import reference_artefact
from vggbench.parity.tolerance import MARGIN, expected_error, tolerance

FP64_OVER_FP32 = 2.0**-29  # of the unit roundoffs: the same derivation, for float64's own error
EMULATED = "emulated"
BACKENDS = ("torch", "onnxruntime", "openvino", EMULATED)  # compiling anew for each mutant would take a minute each
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def engines(backends: Iterable[str] = BACKENDS) -> tuple[Engine, ...]:
    """Return every backend that this machine has, in every precision that it has natively; and PyTorch's imitations."""
    names = list(backends)
    found = [(name, find_backend(name)) for name in names if name != EMULATED]
    imitated = [each for each in EMULATED_PRECISIONS if not find_backend("torch").supports(each, "cpu").supported]
    return tuple(
        Engine(name, precision)
        for precision in PRECISIONS
        for name, backend in found
        if isinstance(backend.availability("cpu"), Available) and backend.supports(precision, "cpu").supported
    ) + tuple(Engine(EMULATED, each) for each in imitated if EMULATED in names)


class Laboratory:
    """The undamaged network, exported, and the scores of damaged ones against its float64 outputs.

    Damaged files are left in the folder of the exports, which is the caller's to remove.
    """

    def __init__(self, spec: ModelSpec, exports: Path, engines: Iterable[Engine], threads: int) -> None:
        self.spec, self.engines, self._threads = spec, tuple(engines), threads
        weights = weights_artefact(spec, exports)
        with np.load(reference_artefact(spec, exports, weights).path) as arrays:
            self._images, amplifications = arrays["inputs"], arrays["amplifications"].tolist()
        lengths = [layer.reduction_length for layer in mac_layers(spec)]
        precisions = {each.precision for each in self.engines} | {"fp32"}
        self.tolerances = {each: tolerance(each, lengths, amplifications) for each in precisions}
        self._own_tolerances = {each: MARGIN * expected_error(each, lengths) for each in precisions}
        self.chain = chain_of(load_module(spec, weights.path))
        self._double = {id(layer): copy.deepcopy(layer).double() for layer in self.chain}
        self.reference = run(map(self._in_double, self.chain), torch.from_numpy(self._images).double()).numpy()
        folder = Path(mkdtemp(prefix="damaged-", dir=exports))
        self._file = ExportedFile(onnx_artefact(spec, exports, weights), self.chain, folder)

    def undamaged(self, engine: Engine) -> Verdict:
        """Return what the check says of the network itself."""
        return self._check(self._outputs(engine, self.chain), engine)

    def scores(self, mutations: Mapping[str, Mutation]) -> Iterator[Score]:
        """Score every mutation that the network has a place for in every engine, walking the chain once.

        What comes before the first change is computed once for all of them in float64.
        """
        starts = {name: self._first_change(mutate(self.chain, self.spec)) for name, mutate in mutations.items()}
        exact = torch.from_numpy(self._images).double()
        for start, layer in enumerate([*self.chain, nn.Identity()]):
            for name in [name for name, first in starts.items() if first == start]:
                # Made again here: all of a large network's mutants together would fill the memory.
                mutant = mutations[name](self.chain, self.spec) or []
                truth = run(map(self._in_double, mutant[start:]), exact).numpy()
                yield from self._scores(name, mutant, truth)
            exact = run([self._in_double(layer)], exact)

    def _scores(self, name: str, mutant: Chain, truth: NDArray[np.float64]) -> Iterator[Score]:
        change = compare(truth, self.reference).signal_error
        equivalent = change <= self.tolerances["fp32"] * FP64_OVER_FP32
        for engine in self.engines:
            observed = self._outputs(engine, mutant)
            verdict = self._check(observed, engine)
            error = None if verdict.metrics is None else verdict.metrics.signal_error
            departure = float(np.linalg.norm(observed - truth) / max(np.linalg.norm(truth), np.finfo(float).tiny))
            own = self._own_tolerances[engine.precision]
            yield Score(name, engine, change, equivalent, verdict.passed, error, verdict.tolerance, departure, own)

    def _check(self, observed: NDArray[np.float32], engine: Engine) -> Verdict:
        return check(observed, self.reference, self.tolerances[engine.precision])

    def _outputs(self, engine: Engine, chain: Chain) -> NDArray[np.float32]:
        with self._open(engine, chain) as session:
            session.stage(0, self._images)
            session.enqueue(0)
            session.wait(0)
            return session.fetch(0)

    def _open(self, engine: Engine, chain: Chain) -> Session:
        count, threads = len(self._images), self._threads
        if engine.backend in ("torch", EMULATED):
            return TorchSession(self._network(engine, chain), count, threads, in_flight=1)
        return find_backend(engine.backend).open(
            self._file.damaged(chain),
            device="cpu",
            precision=engine.precision,
            batch_size=count,
            threads=threads,
            in_flight=1,
            options={},
        )

    def _network(self, engine: Engine, chain: Chain) -> Network:
        if engine.backend == EMULATED:
            module = copy.deepcopy(ChainModule(chain))
            emulate(module, engine.precision)
            return Network(module, self.spec, torch.float32, torch.contiguous_format)
        dtype = DTYPES[engine.precision]
        return Network(ChainModule(list(cast_products(chain, dtype))), self.spec, dtype, torch.contiguous_format)

    def _first_change(self, mutant: Chain | None) -> int | None:
        if mutant is None:
            return None
        pairs = zip(self.chain, mutant, strict=False)
        return next((index for index, (old, new) in enumerate(pairs) if old is not new), len(self.chain))

    def _in_double(self, layer: nn.Module) -> nn.Module:
        return self._double.get(id(layer)) or copy.deepcopy(layer).double()
