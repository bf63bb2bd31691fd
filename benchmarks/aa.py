"""Do two rows of the same thing agree? Holds the intervals of a run's replicas against each other.

    vggbench run --replicas 2 --output reports/aa
    python benchmarks/aa.py reports/aa

Each cell is in the run twice, measured in rounds of its own, interleaved with all others. Two rows of a pair agree
where their intervals overlap; where they do not, but one of them said that its rounds were noisy, drifting or the like,
nobody was misled. Exits with 1 when fewer than 95 % of the pairs do either, with 4 when there is no pair.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from vggbench.errors import NothingToJudge, VggbenchError
from vggbench.measure.validity import is_of_what_was_asked
from vggbench.report.table import row_title, with_interval
from vggbench.results.columns import Row
from vggbench.results.journal import read_rounds
from vggbench.results.rows import derive_rows
from vggbench.results.run_info import RunInfo, read_run_info

LEAST_SHARE = 0.95  # of the pairs: intervals of 95 % each overlap more often than that where nothing is wrong


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows of one cell."""

    first: Row
    second: Row

    @property
    def verdict(self) -> str:
        if not (_has_interval(self.first) and _has_interval(self.second)):
            return "no interval"
        if self.first.latency_low_ms <= self.second.latency_high_ms and (
            self.second.latency_low_ms <= self.first.latency_high_ms
        ):
            return "overlap"
        doubts = sorted({row.status for row in (self.first, self.second)} - {"ok"})
        return f"apart, and said {', '.join(doubts)}" if doubts else "apart"

    @property
    def misleads(self) -> bool:
        return self.verdict in {"no interval", "apart"}


def _has_interval(row: Row) -> bool:
    return row.latency_low_ms is not None and is_of_what_was_asked(row.status)


def pairs_of(info: RunInfo, rows: Sequence[Row]) -> list[Pair]:
    """Return every two rows of one cell; `NothingToJudge` for a run without replicas."""
    same: dict[str, list[Row]] = {}
    for cell, row in zip(info.plan.cells, rows, strict=True):
        if cell.replica:
            same.setdefault(replace(cell, replica=0).id, []).append(row)
    pairs = [Pair(*two) for found in same.values() for two in combinations(found, 2)]
    if not pairs:
        raise NothingToJudge("no cell was measured twice; make a run with --replicas 2")
    return pairs


def lines_of(pairs: Sequence[Pair]) -> list[str]:
    """Return the pairs as a table in Markdown, and the sum."""
    lines = ["| cell | first ms | second ms | second / first | verdict |", "| --- | --- | --- | --- | --- |"]
    for pair in pairs:
        title = row_title(replace(pair.first, replica=None))
        texts = title, _latency(pair.first), _latency(pair.second), _ratio(pair), pair.verdict
        lines.append(f"| {' | '.join(texts)} |")
    overlap = sum(pair.verdict == "overlap" for pair in pairs)
    good = sum(not pair.misleads for pair in pairs)
    total = f"{overlap} of {len(pairs)} pairs overlap; {good} do or said why not ({100 * good / len(pairs):.1f} %)"
    return [*lines, "", total]


def _latency(row: Row) -> str:
    return with_interval(row.latency_ms, row.latency_low_ms, row.latency_high_ms)


def _ratio(pair: Pair) -> str:
    if pair.first.latency_ms is None or pair.second.latency_ms is None:
        return ""
    return f"{pair.second.latency_ms / pair.first.latency_ms:.4f}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a run with --replicas 2")
    folder = parser.parse_args(arguments).run
    try:
        info = read_run_info(folder)
        pairs = pairs_of(info, derive_rows(info, read_rounds(folder, info.plan)))
    except VggbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(lines_of(pairs)))
    return int(sum(not pair.misleads for pair in pairs) < LEAST_SHARE * len(pairs))


if __name__ == "__main__":
    sys.exit(main())
