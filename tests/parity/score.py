"""What became of a mutant, and how many of them the parity check kills. No torch: the page of a run is made with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vggbench.backends.base import PRECISIONS


@dataclass(frozen=True, order=True)
class Engine:
    """A backend in a precision that it has natively here."""

    backend: str
    precision: str

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}"


@dataclass(frozen=True)
class Score:
    """What became of one mutant in one engine.

    Attributes:
        change: how far the float64 outputs moved, in units of the signal.
        equivalent: they moved by no more than the rounding of float64.
        passed: the check found nothing.
        error: what the check measured; None where nothing could be measured.
        tolerance: what the error was held against.
        departure: distance of the outputs from the mutant's own in float64, relative to their norm.
        own_tolerance: what the precision's rounding may make of it. Outputs further away are not this mutant's: caught,
            they would be caught for something else.
    """

    mutation: str
    engine: Engine
    change: float
    equivalent: bool
    passed: bool
    error: float | None
    tolerance: float
    departure: float
    own_tolerance: float

    @property
    def state(self) -> str:
        """Say whether the mutant was `caught`; `equivalent` and `hidden` ones pass rightly, a `MISSED` one does not.

        One is hidden in a short type where the undamaged network could be as far from the reference: its outputs are
        within the tolerance of the mutant's, and the mutant's within another of the reference. Nothing hides in fp32.
        A `FALSE ALARM` is an equivalent one that fails, and `STRANGE` are outputs that are not the mutant's.
        """
        if not self.departure <= self.own_tolerance:  # nor where it is no number
            return "STRANGE"
        if self.equivalent:
            return "equivalent" if self.passed else "FALSE ALARM"
        if not self.passed:
            return "caught"
        return "hidden" if self.engine.precision != "fp32" and self.change <= 2 * self.tolerance else "MISSED"

    @property
    def wrong(self) -> bool:
        return self.state.isupper()

    def __str__(self) -> str:
        error = float("nan") if self.error is None else self.error
        figures = f"float64 {self.change:9.2e}  error {error:9.2e}  departure {self.departure:9.2e}"
        return f"{self.mutation:45} {self.engine!s:17} {self.state:11} {figures}"


SCORED: list[Score] = []  # by this test session, for the table at its end


def kill_rates(scores: Iterable[Score]) -> Iterator[str]:
    """Yield a line a mutation: caught of those that change the function, by precision; and one for all."""
    by_mutation: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        by_mutation[score.mutation].append(score)
    everything = [score for found in by_mutation.values() for score in found]
    precisions = precisions_of(everything)
    for mutation, found in by_mutation.items():
        yield _line(mutation, found, precisions)
    yield _line("all", everything, precisions)


def _line(name: str, scores: list[Score], precisions: Iterable[str]) -> str:
    rates = "   ".join(f"{precision} {rate(scores, precision):>9}" for precision in precisions)
    equivalent = sum(score.equivalent for score in scores)
    return f"{name:48} {rates}" + (f"   {equivalent} equivalent" if equivalent else "")


def precisions_of(scores: Iterable[Score]) -> list[str]:
    """Return the precisions that were scored, the exact one first and the coarsest last."""
    found = {score.engine.precision for score in scores}
    return sorted(found, key=PRECISIONS.index)


def survivors_uncaught_in_fp32(scores: Iterable[Score]) -> list[str]:
    """Return what no precision has seen: mutants of one network that hide in a coarse one and are caught in no fp32."""
    scores = list(scores)
    caught = {score.mutation for score in scores if score.engine.precision == "fp32" and score.state == "caught"}
    return [f"{score}" for score in scores if score.state == "hidden" and score.mutation not in caught]


def rate(scores: Iterable[Score], precision: str) -> str:
    """Return caught/counted in a precision, equivalents not counted; empty where there is none."""
    counted = [score for score in scores if score.engine.precision == precision and not score.equivalent]
    return f"{sum(not score.passed for score in counted)}/{len(counted)}" if counted else ""
