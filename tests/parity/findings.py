"""What a full examination of the parity check found: its journal, and the page that is made from it. No torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.parity.score import Engine, Score, precisions_of, rate, survivors_uncaught_in_fp32


@dataclass(frozen=True)
class Head:
    """Where and of what an examination is."""

    command: str
    started_at: str
    commit: str
    machine: str
    versions: Mapping[str, str]

    def same_code_and_machine(self, other: Head) -> bool:
        """Compare all that decides what is found; a journal that is in git makes the checkout dirty by itself."""
        mine, theirs = ((each.commit.removesuffix("-dirty"), each.machine, each.versions) for each in (self, other))
        return mine == theirs


@dataclass(frozen=True)
class Verification:
    """What `vggbench verify` said of one variant: a row a backend and precision."""

    variant: str
    rows: tuple[Mapping[str, Any], ...]

    @property
    def wrong(self) -> bool:
        return not self.rows or any(row["status"] != "ok" for row in self.rows)

    def __str__(self) -> str:
        state = "NOT EXAMINED" if not self.rows else "FALSE ALARM" if self.wrong else "passes"
        return f"{self.variant:15} {state} in {len(self.rows)}: " + ", ".join(map(_row_text, self.rows))


def _row_text(row: Mapping[str, Any]) -> str:
    return f"{_column(row)} {_cell(row)}" + ("" if row["status"] == "ok" else f" ({row['reasons']})")


class Journal:
    """A line a finding, in the file before the next is looked for; the first says where they are from."""

    def __init__(self, path: Path, head: Head, *, resume: bool) -> None:
        """Begin anew, or go on after the last whole line; what another commit or machine found is not gone on with."""
        self._path, self.head = path, head
        self.scores: list[Score] = []
        self.verifications: list[Verification] = []
        lines = self._cut_to_whole_lines() if resume and path.exists() else []
        if lines:
            self._read(lines)
        else:
            path.write_text("", encoding="utf-8")
            self._write("head", asdict(head))

    def _cut_to_whole_lines(self) -> list[bytes]:
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        os.truncate(self._path, len(whole))
        return whole.splitlines()

    def _read(self, lines: list[bytes]) -> None:
        found = [json.loads(line) for line in lines]
        stored = Head(**found[0]["head"])
        if not self.head.same_code_and_machine(stored):
            raise SystemExit(f"{self._path}: is of another commit, machine or version; begin anew, without --resume")
        self.head = stored
        self.scores = [_score(line["score"]) for line in found if "score" in line]
        variants = [line["variant"] for line in found if "variant" in line]
        self.verifications = [Verification(each["variant"], tuple(each["rows"])) for each in variants]

    def add(self, finding: Score | Verification) -> None:
        """Write a finding down."""
        (self.scores if isinstance(finding, Score) else self.verifications).append(finding)
        self._write(_kind(finding), asdict(finding))

    def _write(self, kind: str, content: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({kind: content}) + "\n")


def _score(stored: Mapping[str, Any]) -> Score:
    return Score(**{**stored, "engine": Engine(**stored["engine"])})


def _kind(finding: Score | Verification) -> str:
    return "score" if isinstance(finding, Score) else "variant"


def summary(journal: Journal) -> tuple[str, list[str]]:
    """Return the page, and what is wrong, a line each."""
    found = list(complaints(journal))
    head = journal.head
    versions = ", ".join(f"{name} {version}" for name, version in head.versions.items())
    lines = [
        "# Can the parity check be fooled?",
        "",
        f"`{head.command}`, begun {head.started_at} at commit {head.commit[:12]} on {head.machine}.",
        "",
        f"Versions: {versions}.",
        "",
        *([f"- **{line}**" for line in found] or ["Nothing was missed, and there was no false alarm."]),
        "",
        *_engine_table(journal.scores),
        "",
        *_mutant_table(journal.scores),
        "",
        *_variant_table(journal.verifications),
    ]
    return "\n".join(lines) + "\n", found


def complaints(journal: Journal) -> Iterator[str]:
    """Yield every miss, false alarm, and what was not examined."""
    yield from (str(score) for score in journal.scores if score.wrong)
    yield from (f"caught in no precision: {line}" for line in survivors_uncaught_in_fp32(journal.scores))
    yield from (str(each) for each in journal.verifications if each.wrong)
    if not any(score.state == "caught" for score in journal.scores):
        yield "no mutant was caught"
    if not journal.verifications:
        yield "no variant was examined"


def _engine_table(scores: Iterable[Score]) -> Iterator[str]:
    yield "## Mutants by backend and precision"
    yield ""
    yield "| | change the function | caught | hidden under the rounding | missed | equivalent |"
    yield "| --- | --- | --- | --- | --- | --- |"
    scores = list(scores)
    order = precisions_of(scores)
    for engine in sorted(
        {score.engine for score in scores}, key=lambda each: (order.index(each.precision), each.backend)
    ):
        own = [score for score in scores if score.engine == engine]
        states = [score.state for score in own]
        counts = (
            sum(not score.equivalent for score in own),
            *(states.count(state) for state in ("caught", "hidden")),
            sum(score.wrong for score in own),
            states.count("equivalent"),
        )
        yield f"| {engine} | " + " | ".join(map(str, counts)) + " |"
    yield ""
    same = dict.fromkeys(score.mutation for score in scores if score.equivalent)
    yield f"Equivalent, as float64 tells: {', '.join(same) or 'none'}."


def _mutant_table(scores: Iterable[Score]) -> Iterator[str]:
    yield "## Mutants one by one"
    yield ""
    yield "`change` is how far the float64 outputs move, in units of the signal; then the backends that caught it."
    yield "What hides in a precision changes less than twice what its rounding may change; in fp32 nothing hides."
    yield ""
    scores = list(scores)
    precisions = precisions_of(scores)
    yield f"| mutation | change | {' | '.join(precisions)} | |"
    yield "| --- | --- | " + " | ".join("---" for _ in precisions) + " | --- |"
    for name in dict.fromkeys(score.mutation for score in scores):
        own = [score for score in scores if score.mutation == name]
        rates = " | ".join(rate(own, precision) for precision in precisions)
        change = next(score.change for score in sorted(own, key=lambda score: precisions.index(score.engine.precision)))
        yield f"| {name} | {change:.1e} | {rates} | {_states(own)} |"


def _states(scores: Iterable[Score]) -> str:
    """Return what became of a mutant where it was not caught, and in which precisions it hides."""
    scores = list(scores)
    others = sorted({score.state for score in scores} - {"caught", "hidden"})
    hidden = precisions_of(score for score in scores if score.state == "hidden")
    return ", ".join([*([f"hidden in {', '.join(hidden)}"] if hidden else []), *others])


def _variant_table(verifications: Iterable[Verification]) -> Iterator[str]:
    yield "## Undamaged variants: error / tolerance"
    yield ""
    verifications = list(verifications)
    columns = list(dict.fromkeys(_column(row) for each in verifications for row in each.rows))
    yield "| variant | " + " | ".join(columns) + " |"
    yield "| --- | " + " | ".join("---" for _ in columns) + " |"
    for each in verifications:
        cells = {_column(row): _cell(row) for row in each.rows}
        yield f"| {each.variant} | " + " | ".join(cells.get(column, "") for column in columns) + " |"


def _column(row: Mapping[str, Any]) -> str:
    return f"{row['backend']} {row['precision']}"


def _cell(row: Mapping[str, Any]) -> str:
    if row["parity_error"] is None or row["status"] != "ok":
        return f"**{row['status']}**"
    return f"{row['parity_error']:.1e} / {row['parity_tolerance']:.1e}"
