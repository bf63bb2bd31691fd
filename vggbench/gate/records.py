"""What a gate judges and what it says, as plain data: effects, the declared rule, verdicts, the report.

Pure data: imports nothing but errors and the plan's names; whoever measures, judges or prints shares it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from vggbench.errors import (
    CellError,
    CheckFailed,
    Inconclusive,
    NothingToJudge,
    RequestError,
    VggbenchError,
    worst_exit_code,
)
from vggbench.plan import Cell, format_options

VerdictName = Literal["REGRESSED", "INVALID", "INCONCLUSIVE", "IMPROVED", "PASS"]
Side = Literal["base", "head"]
# Worst first: the order in which verdicts are shown.
VERDICTS: tuple[VerdictName, ...] = get_args(VerdictName)

TOLERANCE = 0.01  # a slowdown that nobody needs to hear of
BUDGET = 0.03  # what a PASS promises: slower by less than this
ROUNDS = 7  # 11 of their 2^7 label swaps are within the level; and the 95 % interval needs 6
CONFIRMATION_ROUNDS = 8
# Family-wise, of each stage: below 10 % each, so that their product keeps to 1 % with room for a count to show it.
LEVELS = (0.0875, 0.0875)
IMPROVEMENT_LEVEL = 0.01  # family-wise; the first stage alone decides it, since nobody is alarmed by it
# On the recorded pairs, 20 iterations a block: from the sixth on, an iteration is within half a percent of its block's
# median (the first is 17 % above, the fifth 1.6 %): benchmarks/README.md.
DROPPED_ITERATIONS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What was declared before the first round: nothing of it may depend on what was measured.

    Attributes:
        tolerance: relative slowdown up to which a cell is "not slower".
        budget: a PASS says that the slowdown is below this; more than the tolerance.
        rounds: of every cell, in the first stage.
        confirmation_rounds: fresh ones, of the cells that the first stage flagged; 0 for a single stage.
        levels: family-wise false-alarm rates of the two stages; their product is that of the gate.
        dropped_iterations: first ones of each block, slower because the other side ran before.
    """

    tolerance: float = TOLERANCE
    budget: float = BUDGET
    rounds: int = ROUNDS
    confirmation_rounds: int = CONFIRMATION_ROUNDS
    levels: tuple[float, float] = LEVELS
    improvement_level: float = IMPROVEMENT_LEVEL
    dropped_iterations: int = DROPPED_ITERATIONS

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < 1:
            raise RequestError(f"the tolerance is {self.tolerance:g}; it must be a share from 0 to below 1, like 0.01")
        if not self.tolerance < self.budget < 1:
            limits = f"it must be more than the tolerance of {self.tolerance:g} and less than 1"
            raise RequestError(f"the budget is {self.budget:g}; {limits}")
        if not all(0 < level <= 1 for level in (*self.levels, self.improvement_level)):
            raise RequestError(f"the levels are {self.levels} and {self.improvement_level}; each must be within (0, 1]")
        if self.dropped_iterations < 0:
            raise RequestError(f"{self.dropped_iterations} iterations to drop; it must be 0 or more")
        for count, level in self.stages:
            if 2.0**-count > level:
                text = f"{count} rounds can never reach a level of {level:.2g}: the smallest p-value is 1/{2**count}"
                raise RequestError(f"{text}; give more rounds")

    @property
    def false_alarm_rate(self) -> float:
        """Largest probability that a gate of the same thing on both sides says REGRESSED of any cell."""
        return self.levels[0] * self.levels[1]

    @property
    def stages(self) -> tuple[tuple[int, float], ...]:
        """Rounds and family-wise level of each stage; a single stage has the whole gate's level."""
        if self.confirmation_rounds == 0:
            return ((self.rounds, self.false_alarm_rate),)
        return ((self.rounds, self.levels[0]), (self.confirmation_rounds, self.levels[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class CellEffects:
    """What was measured of one cell on both sides.

    Attributes:
        identity: the row's identity columns, as `identity_of` gives them.
        rounds: of the first stage, in order: log(head / base) of each pair of blocks (`effects.block_effects`).
        confirmation: likewise of the second stage; empty where the cell was not flagged.
        invalid: why the rounds cannot be judged, whatever they say: the sides differ in what must not, one of them was
            throttled or had CPU time stolen, a warm-up never got steady. Verdict INVALID, exit code 3.
        outputs: in what the sides' outputs differ from the reference or from each other. INVALID, exit code 1.
        failed: on which side the cell failed to build or to run, and how. INVALID, exit code 5.
        base_ms: latency, for the reader; no verdict depends on it.
        head_ms: likewise.
    """

    cell_id: str
    title: str
    identity: Mapping[str, str | int | None] = field(default_factory=dict)
    rounds: tuple[tuple[float, ...], ...] = ()
    confirmation: tuple[tuple[float, ...], ...] = ()
    invalid: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    base_ms: float | None = None
    head_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellVerdict:
    """What is said of one cell.

    Attributes:
        ratio: head / base: 1.05 is 5 % slower; None where nothing was measured. Of a flagged cell it is that of its
            fresh rounds alone, which did not choose it.
        low: lower end of the ratio's 95 % interval.
        high: upper end.
        mde90: relative slowdown that these rounds would have found nine times in ten: 0.02 is 2 %.
        rounds_needed: in the first stage, for an `mde90` within the budget; None where it is.
        rounds: that were judged, of both stages.
        flagged: whether the first stage asked for confirmation.
        exit_code: what the verdict ends in by itself: DESIGN's list, INVALID by its reason.
    """

    cell_id: str
    title: str
    identity: Mapping[str, str | int | None]
    verdict: VerdictName
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    mde90: float | None = None
    rounds_needed: int | None = None
    rounds: int = 0
    flagged: bool = False
    base_ms: float | None = None
    head_ms: float | None = None
    reasons: tuple[str, ...] = ()
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class MissingCell:
    """A cell that one side alone has."""

    cell_id: str
    title: str
    missing_in: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """Everything a gate or a comparison says.

    Attributes:
        kind: `gate` measured both sides in turn, `compare` had stored runs.
        base: what the base is, in words.
        differences: base's and head's value by name (`libraries.torch`), of what is under test; shown first.
        notes: what else a reader must know, such as how far a verdict can go.
        inconclusive_passes: whether `--inconclusive pass` was asked.
        false_alarm_rate: declared, over the whole table, of both sides being the same thing; None where it is not
            known.
    """

    kind: Literal["gate", "compare"]
    base: str
    head: str
    rule: Rule
    verdicts: tuple[CellVerdict, ...]
    missing: tuple[MissingCell, ...] = ()
    differences: Mapping[str, tuple[object, object]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    inconclusive_passes: bool = False
    false_alarm_rate: float | None = None

    @property
    def exit_code(self) -> int:
        """Return the code of DESIGN's list; a report without a cell is never good."""
        codes = [self._code(found) for found in self.verdicts]
        if self.missing or not self.verdicts:
            codes.append(NothingToJudge.exit_code)
        return worst_exit_code(codes)

    def count(self, verdict: VerdictName) -> int:
        """Return how many cells have this verdict."""
        return sum(found.verdict == verdict for found in self.verdicts)

    def error(self) -> VggbenchError | None:
        """Return the error that says in a line why the exit code is not 0; None where it is."""
        cells = len(self.verdicts)
        if self.exit_code == CheckFailed.exit_code:
            return CheckFailed(self._failure())
        if self.exit_code == NothingToJudge.exit_code:
            missing = f"{len(self.missing)} cells are on one side only" if self.missing else "no cell is on both sides"
            return NothingToJudge(f"{missing}; measure the same plan on both")
        if self.exit_code == CellError.exit_code:
            failed = sum(found.exit_code == CellError.exit_code for found in self.verdicts)
            return CellError(f"{failed} of {cells} cells failed to build or to run; their reasons are above")
        if self.exit_code == Inconclusive.exit_code:
            return Inconclusive(self._doubt())
        return None

    def _code(self, found: CellVerdict) -> int:
        return 0 if found.verdict == "INCONCLUSIVE" and self.inconclusive_passes else found.exit_code

    def _failure(self) -> str:
        slower = self.count("REGRESSED")
        wrong = sum(found.exit_code == CheckFailed.exit_code for found in self.verdicts) - slower
        parts = [f"{slower} slower"] * bool(slower) + [f"{wrong} with other outputs"] * bool(wrong)
        return f"{' and '.join(parts)} of {len(self.verdicts)} cells; their reasons are above"

    def _doubt(self) -> str:
        parts = [f"{self.count('INVALID')} invalid"] * bool(self.count("INVALID"))
        if not self.inconclusive_passes and self.count("INCONCLUSIVE"):
            parts.append(f"{self.count('INCONCLUSIVE')} inconclusive")
        return f"{' and '.join(parts)} of {len(self.verdicts)} cells; their reasons are above"


def identity_of(cell: Cell) -> dict[str, str | int | None]:
    """Return the columns that tell the cell from others, under the names and in the texts of a row."""
    from vggbench.artefacts.quantization import shown_options

    return {
        "variant": cell.spec.variant,
        "input_size": cell.spec.input_size,
        "backend": cell.backend,
        "options": " ".join(format_options(cell.options)) or None,
        "precision": cell.precision,
        "export_options": " ".join(format_options(shown_options(cell.export_options))) or None,
        "device": cell.device,
        "batch_size": cell.batch_size,
        "replica": cell.replica or None,
        "threads": cell.threads,
    }
