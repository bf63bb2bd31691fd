"""Whether damage changes the function, told in float64, and whether the parity check sees it in every backend.

The torch backend runs the changed chain, the others a damaged copy of the exported file. What PyTorch does not compute
in here it imitates in fp32, as an engine of its own. int8 and fp8 engines run the damaged file quantised, held against
the undamaged quantised file in float64; what the damaged one should compute is told by its own graph in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from tests.parity.chain import Chain, ChainModule, cast_products, chain_of, run
from tests.parity.damage import Mutation
from tests.parity.damaged_file import ExportedFile
from tests.parity.damaged_quantized import QUANTIZED_FILE, QuantizedFile
from tests.parity.score import Engine, Score
from vggbench.artefacts.onnx import onnx_artefact
from vggbench.artefacts.onnx_check import INPUT, LOGITS
from vggbench.artefacts.onnx_form import OnnxForm, default_opset
from vggbench.artefacts.quantization import QUANTIZED_PRECISIONS, Calibration
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
from vggbench.parity.quantized_reference import evaluate
from vggbench.parity.reference import IMAGES, reference_artefact
from vggbench.parity.tolerance import ARITHMETIC, LEAST_SPREAD, MARGIN, SPREAD_MARGIN, expected_error, tolerance

FP64_OVER_FP32 = 2.0**-29  # of the unit roundoffs: the same derivation, for float64's own error
EMULATED = "emulated"
ORACLE = "onnx-reference"  # of what no engine here computes in
# Without those that would compile each mutant for a minute.
BACKENDS = ("torch", "onnxruntime", "openvino", EMULATED, ORACLE)
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def engines(backends: Iterable[str] = BACKENDS) -> tuple[Engine, ...]:
    """Return every backend that this machine has, in every precision that it has natively; and PyTorch's imitations.

    The oracle evaluates what the file says, and is asked for fp8 alone: nobody else here has it.
    """
    names = list(backends)
    found = [(name, find_backend(name)) for name in names if name != EMULATED]
    imitated = [each for each in EMULATED_PRECISIONS if not find_backend("torch").supports(each, "cpu").supported]
    return tuple(
        Engine(name, precision)
        for precision in PRECISIONS
        for name, backend in found
        if (precision == "fp8" or name != ORACLE)
        and isinstance(backend.availability("cpu"), Available)
        and backend.supports(precision, "cpu").supported
    ) + tuple(Engine(EMULATED, each) for each in imitated if EMULATED in names)


# Outputs of a quantised graph in float64, and with its roundings perturbed.
Truth = tuple[NDArray[np.float64], NDArray[np.float64]]


def _form(engine: Engine) -> OnnxForm:
    """Return the form of the file that an engine opens, its ranges from a few seeded images."""
    opened = find_backend(engine.backend).file_form(engine.precision, {})
    calibration = Calibration(images=IMAGES)
    return OnnxForm(
        precision=opened.precision,
        opset=default_opset(opened.precision),
        layout=opened.layout,
        calibration=calibration,
    )


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
        precisions = {each.precision for each in self.engines if each.precision in ARITHMETIC} | {"fp32"}
        self.tolerances = {each: tolerance(each, lengths, amplifications) for each in precisions}
        self._own_tolerances = {each: MARGIN * expected_error(each, lengths) for each in precisions}
        self.chain = chain_of(load_module(spec, weights.path))
        self._double = {id(layer): copy.deepcopy(layer).double() for layer in self.chain}
        self.reference = run(map(self._in_double, self.chain), torch.from_numpy(self._images).double()).numpy()
        folder = Path(mkdtemp(prefix="damaged-", dir=exports))
        self._file = ExportedFile(onnx_artefact(spec, exports, weights), self.chain, folder)
        forms = {each: _form(each) for each in self.engines if each.precision in QUANTIZED_PRECISIONS}
        files = {form: QuantizedFile(spec, exports, form) for form in set(forms.values())}
        self._quantized = {each: files[form] for each, form in forms.items()}

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
        exact = compare(truth, self.reference).signal_error
        equivalent = exact <= self.tolerances["fp32"] * FP64_OVER_FP32
        truths: dict[QuantizedFile, Truth] = {}
        for engine in self.engines:
            observed = self._outputs(engine, mutant)
            verdict = self._check(observed, engine)
            error = None if verdict.metrics is None else verdict.metrics.signal_error
            if engine in self._quantized:
                subject = self._quantized[engine]
                truths[subject] = truths.get(subject) or self._quantized_truth()
                change, departure, own = self._quantized_figures(engine, truths[subject], observed)
            else:
                change, own = exact, self._own_tolerances[engine.precision]
                departure = float(np.linalg.norm(observed - truth) / max(np.linalg.norm(truth), np.finfo(float).tiny))
            yield Score(name, engine, change, equivalent, verdict.passed, error, verdict.tolerance, departure, own)

    def _quantized_truth(self) -> Truth:
        """Return what the quantised mutant that was just opened computes in float64, and with roundings perturbed."""
        graph = onnx.load(self._file.folder / QUANTIZED_FILE)
        return evaluate(graph, INPUT, LOGITS, self._images, len(self._images))

    def _quantized_figures(
        self, engine: Engine, truth: Truth, observed: NDArray[np.float32]
    ) -> tuple[float, float, float]:
        """Return change, departure and what it may be, by the quantised graphs: their roundings count as theirs."""
        plain, perturbed = truth
        norm = max(float(np.linalg.norm(plain)), np.finfo(float).tiny)
        departure, spread = (float(np.linalg.norm(other - plain)) / norm for other in (observed, perturbed))
        change = compare(plain, self._quantized[engine].reference).signal_error
        return change, departure, max(SPREAD_MARGIN * spread, LEAST_SPREAD)

    def _check(self, observed: NDArray[np.float32], engine: Engine) -> Verdict:
        if engine in self._quantized:
            subject = self._quantized[engine]
            return check(observed, subject.reference, subject.tolerance, exact=self.reference)
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
        damaged = self._file.damaged(chain)
        return find_backend(engine.backend).open(
            self._quantized[engine].damaged(damaged) if engine in self._quantized else damaged,
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
