"""Can the parity check be fooled? Every mutant, and every variant undamaged, at full size in every backend.

    python -m tests.parity.verify_all [--output reports/verify-all] [--exports exports] [--resume]

First every mutation of vgg16_bn at 224 pixels, in every backend and precision that is native here: one that changes the
function in float64 and passes in fp32 is a miss. Then every variant as it is: one that fails is a false alarm. Each
finding is a line of `journal.jsonl` as soon as it is there, and `--resume` goes on after the last; `summary.md` is made
from it. Exits with 1 where anything was missed, a false alarm, or not examined.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.parity.findings import Head, Journal, Verification, summary
from tests.parity.mutations import EQUIVALENT, MUTATIONS
from tests.parity.score import Score
from tests.parity.scoring import BACKENDS, EMULATED, ORACLE, Laboratory, engines
from vggbench.artefacts.quantization import SYNTHETIC
from vggbench.backends.base import PRECISIONS, Available
from vggbench.backends.registry import REAL_BACKENDS, find_backend
from vggbench.environment import collect, default_threads
from vggbench.models.configs import VARIANTS
from vggbench.models.spec import ModelSpec, make_spec
from vggbench.plan import DEFAULT_VARIANT, Pace, find_cells, selection
from vggbench.results.columns import Row
from vggbench.runner import verify_plan

COMMAND = "make verify-all"
SCORED_IN = tuple(name for name in BACKENDS if name != ORACLE)  # which is numpy: for the tests' small networks
VERIFIED_IN = tuple(name for name in SCORED_IN if name != EMULATED)


@dataclass(frozen=True)
class Work:
    """What is examined.

    Attributes:
        mutated: the network that is damaged.
        mutations: by name; the equivalent ones among them show that the check does not fail what is the same.
        variants: by title, what `plan.selection` takes of each network that is verified as it is.
    """

    mutated: ModelSpec = field(default_factory=lambda: make_spec(DEFAULT_VARIANT))
    mutations: Mapping[str, Any] = field(default_factory=lambda: {**MUTATIONS, **EQUIVALENT})
    variants: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {name: {"variant": name} for name in VARIANTS}
    )


def verify_all(work: Work, output: Path, exports: Path, *, resume: bool) -> int:
    """Examine what the journal does not hold yet, print it, write the summary; returns the exit code."""
    output.mkdir(parents=True, exist_ok=True)
    journal = Journal(output / "journal.jsonl", _head(), resume=resume)
    for score in examine_mutants(work, exports, journal):
        journal.add(score)
        print(score, flush=True)
    for verification in examine_variants(work, exports, journal):
        journal.add(verification)
        print(verification, flush=True)
    page, complaints = summary(journal)
    (output / "summary.md").write_text(page, encoding="utf-8")
    print("", *(complaints or ["nothing was missed, and there was no false alarm"]), sep="\n")
    return 1 if complaints else 0


def _head() -> Head:
    found = collect()
    return Head(
        command=COMMAND,
        started_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=found.commit or "unknown",
        machine=f"{found.hardware.cpu_model}, {found.hardware.usable_cores} cores",
        versions={name: version for name, version in found.libraries.items() if version},
    )


def examine_mutants(work: Work, exports: Path, journal: Journal) -> Iterator[Score]:
    """Yield the score of every mutant in every engine that the journal does not hold yet."""
    native = engines(SCORED_IN)
    done = {(score.mutation, score.engine) for score in journal.scores}
    wanted = {
        name: mutation
        for name, mutation in work.mutations.items()
        if any((name, engine) not in done for engine in native)
    }
    if not wanted:
        return
    with TemporaryDirectory(prefix="verify-all-", dir=exports) as folder:
        subject = Laboratory(work.mutated, Path(folder), native, default_threads())
        for score in subject.scores(wanted):
            if (score.mutation, score.engine) not in done:
                yield score


def examine_variants(work: Work, exports: Path, journal: Journal) -> Iterator[Verification]:
    """Yield what `vggbench verify` says of every variant that the journal does not hold yet."""
    done = {verification.variant for verification in journal.verifications}
    for title, shape in work.variants.items():
        if title not in done:
            with TemporaryDirectory(prefix="verify-all-", dir=exports) as folder:
                rows = _verified(shape, _backends(title), Path(folder))
            yield Verification(variant=title, rows=tuple(map(_facts, rows)))


def _backends(title: str) -> list[str]:
    """Return the backends to verify a variant in: those that compile for a minute have the default variant alone."""
    names = REAL_BACKENDS if title == DEFAULT_VARIANT else VERIFIED_IN
    return [name for name in names if isinstance(find_backend(name).availability("cpu"), Available)]


def _verified(shape: Mapping[str, Any], backends: Sequence[str], exports: Path) -> list[Row]:
    """Verify in every precision that a backend has; without a name it would be the usual ones."""
    precisions = sorted({engine.precision for engine in engines(VERIFIED_IN)}, key=PRECISIONS.index)
    quantized = {"calibration": SYNTHETIC} if "int8" in precisions else {}
    chosen = selection({**shape, **quantized, "backend": list(backends), "precision": precisions})
    cells, versions = find_cells([chosen], device="cpu", threads=None)
    native = tuple(cell for cell in cells if not cell.unsupported)
    return verify_plan(Pace(rounds=1).plan(native), exports, backend_versions=versions)


def _facts(row: Row) -> dict[str, Any]:
    names = ("backend", "precision", "parity_error", "parity_tolerance", "status", "reasons")
    return {name: getattr(row, name) for name in names}


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity.verify_all", description=str(__doc__).split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("reports/verify-all"), help="folder of journal and summary")
    parser.add_argument("--exports", type=Path, default=Path("exports"), help="where artefacts are for a while")
    parser.add_argument("--resume", action="store_true", help="go on after the last line of the journal")
    chosen = parser.parse_args(arguments)
    chosen.exports.mkdir(parents=True, exist_ok=True)
    return verify_all(Work(), chosen.output, chosen.exports, resume=chosen.resume)


if __name__ == "__main__":
    sys.exit(main())
