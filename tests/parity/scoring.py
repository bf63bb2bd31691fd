"""Whether a mutation changes the function, told in float64, and whether parity sees it in fp32."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tests.parity.mutations import Chain, Mutation, chain_of
from vggbench.data.synthetic import images
from vggbench.models.layers import mac_layers
from vggbench.models.spec import ModelSpec
from vggbench.models.weights import build_module
from vggbench.parity.check import Verdict, check
from vggbench.parity.metrics import amplification, compare
from vggbench.parity.tolerance import tolerance

FP64_OVER_FP32 = 2.0**-29  # of the unit roundoffs: the same derivation, for float64's own error


@dataclass(frozen=True)
class Score:
    """One mutant: how far float64 moves, and what the check says in fp32."""

    name: str
    change: float
    verdict: Verdict

    @property
    def equivalent(self) -> bool:
        """The float64 outputs moved by no more than the rounding of float64."""
        return self.change <= self.verdict.tolerance * FP64_OVER_FP32

    def __str__(self) -> str:
        state = "equivalent" if self.equivalent else "MISSED" if self.verdict.passed else "caught"
        error = self.verdict.metrics.signal_error if self.verdict.metrics else float("nan")
        return f"{self.name:45} {state:10} float64 {self.change:9.2e}  fp32 {error:9.2e}"


class Laboratory:
    """The undamaged network in both precisions, and the scores of damaged ones against its float64 outputs."""

    def __init__(self, spec: ModelSpec, count: int = 8) -> None:
        self.spec = spec
        self.inputs = torch.from_numpy(images(count, spec.input_size, seed=0))
        self.chain = chain_of(build_module(spec))
        self._double = {id(layer): copy.deepcopy(layer).double() for layer in self.chain}
        self.reference = run([self._double[id(layer)] for layer in self.chain], self.inputs.double()).numpy()
        lengths = [layer.reduction_length for layer in mac_layers(spec)]
        self.tolerance = tolerance("fp32", lengths, amplification(self.reference))

    def undamaged(self) -> Verdict:
        """Return what the check says of the network itself in fp32."""
        return check(run(self.chain, self.inputs).numpy(), self.reference, self.tolerance)

    def scores(self, mutations: Mapping[str, Mutation]) -> Iterator[Score]:
        """Score every mutation that the network has a place for, walking the chain once.

        What comes before the first change is computed once for all of them.
        """
        starts = {name: self._first_change(mutate(self.chain, self.spec)) for name, mutate in mutations.items()}
        single, double = self.inputs, self.inputs.double()
        for start, layer in enumerate([*self.chain, nn.Identity()]):
            for name in [name for name, first in starts.items() if first == start]:
                # Made again here: all of a large network's mutants together would fill the memory.
                rest = (mutations[name](self.chain, self.spec) or [])[start:]
                observed, truth = run(rest, single), run(map(self._in_double, rest), double)
                yield self._score(name, observed.numpy(), truth.numpy())
            single, double = run([layer], single), run([self._in_double(layer)], double)

    def _score(self, name: str, observed: np.ndarray, truth: np.ndarray) -> Score:
        change = compare(truth, self.reference).signal_error
        return Score(name, change, check(observed, self.reference, self.tolerance))

    def _first_change(self, mutant: Chain | None) -> int | None:
        if mutant is None:
            return None
        pairs = zip(self.chain, mutant, strict=False)
        return next((index for index, (old, new) in enumerate(pairs) if old is not new), len(self.chain))

    def _in_double(self, layer: nn.Module) -> nn.Module:
        return self._double.get(id(layer)) or copy.deepcopy(layer).double()


def run(chain: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Run layers one after the other."""
    with torch.inference_mode():
        for layer in chain:
            x = layer.eval()(x)
    return x
