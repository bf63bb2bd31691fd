"""Do two rows of the same thing agree? Holds the intervals of a run's replicas against each other.

    vggbench run --replicas 2 --output reports/aa
    python benchmarks/aa.py reports/aa
    python benchmarks/aa.py --null 12       # 12 rounds each of the backend that does nothing, measured here and now

Each cell is in the run twice, measured in rounds of its own, interleaved with all others. Two rows of a pair agree
where their intervals overlap; where they do not, but one of them said that its rounds were noisy, drifting or the like,
nobody was misled. Exits with 1 when fewer than 95 % of the pairs do either, with 4 when there is no pair.

A run never times the backend that does nothing, since its outputs are wrong. What is left of a request without one is
the harness itself: two rows of that show whether the harness agrees with itself.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

from pydantic import TypeAdapter

from vggbench.errors import NothingToJudge, VggbenchError
from vggbench.measure.client import WorkerClient
from vggbench.measure.records import RoundRecord, SessionRecord
from vggbench.measure.validity import gravest, is_of_what_was_asked
from vggbench.models.spec import make_spec
from vggbench.plan import Cell
from vggbench.plan.cells import replicate
from vggbench.plan.order import schedule
from vggbench.preparation import Materials, materials, request_for
from vggbench.report.table import row_title, with_interval
from vggbench.results.columns import Row
from vggbench.results.figures import figures
from vggbench.results.findings import doubts, launch_findings
from vggbench.results.journal import read_rounds
from vggbench.results.rows import derive_rows
from vggbench.results.run_info import RunInfo, read_run_info

NULL_REQUESTS = 2000  # a block: some hundred microseconds
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


def pairs_in(folder: Path) -> list[Pair]:
    """Return the pairs of a run's folder."""
    info = read_run_info(folder)
    return pairs_of(info, derive_rows(info, read_rounds(folder, info.plan)))


def null_pair(rounds: int) -> Pair:
    """Measure two rows of the backend that does nothing, in interleaved rounds, as a run measures."""
    cell = Cell(
        spec=make_spec(config="8,M", input_size=32, num_classes=5, classifier_width=16),
        backend="null",
        options={},
        precision="fp32",
        device="cpu",
        batch_size=1,
        threads=1,
        in_flight=1,
    )
    cells = replicate([cell], 2)
    records: dict[int, list[RoundRecord]] = {cell.replica: [] for cell in cells}
    with tempfile.TemporaryDirectory() as exports:
        found = materials(cell, Path(exports))
        for number, one in schedule(cells, rounds, 0):
            records[one.replica].append(_null_round(one, number, found))
    return Pair(*(_null_row(cell, records[cell.replica]) for cell in cells))


def _null_round(cell: Cell, number: int, found: Materials) -> RoundRecord:
    request = request_for(cell, found, number, in_flight=1, seconds=1.0, seed=number, timeout_s=60.0)
    started_at = datetime.now(UTC).isoformat()
    start = time.monotonic()
    with WorkerClient(timeout_s=request.timeout_s) as worker:
        session = worker.call("open", **request.opening(1)) | {"in_flight": 1, "evidence": worker.call("evidence")}
        session["parity"] = worker.call("verify", tolerance=request.tolerance)
        block = {"kind": "compute", "seconds": 0.0, "least_samples": NULL_REQUESTS}
        warm = worker.call("warm", least_s=0.0, most_s=1.0)
        blocks = [warm, *(worker.call("block", **block) for _ in range(request.timing.compute_blocks))]
    return RoundRecord(
        cell_id=cell.id,
        round=number,
        started_at=started_at,
        seconds=time.monotonic() - start,
        sessions=(TypeAdapter(SessionRecord).validate_python({**session, "blocks": blocks}),),
        failure=None,
        peak_memory_bytes=None,
        load_average=None,
    )


def _null_row(cell: Cell, records: Sequence[RoundRecord]) -> Row:
    values = figures(records)
    status = gravest(launch_findings(records) + doubts(values))
    named = {"variant": "nothing", "backend": cell.backend, "precision": cell.precision, "batch_size": cell.batch_size}
    return Row(**named, **values, status=status)


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
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("run", type=Path, nargs="?", help="folder of a run with --replicas 2")
    source.add_argument("--null", type=int, metavar="ROUNDS", help="measure the backend that does nothing instead")
    options = parser.parse_args(arguments)
    try:
        pairs = pairs_in(options.run) if options.run else [null_pair(options.null)]
    except VggbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(lines_of(pairs)))
    return int(sum(not pair.misleads for pair in pairs) < LEAST_SHARE * len(pairs))


if __name__ == "__main__":
    sys.exit(main())
