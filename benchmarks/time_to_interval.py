"""How long does a backend take until its interval is narrow? From a run of many rounds.

    vggbench run --rounds 40 --output reports/long
    python benchmarks/time_to_interval.py reports/long [--percent 2]

The rounds of each cell are taken in the order in which they were measured. What is printed is the first number of them
at which neither end of the 95 % interval is further than so many percent from the estimate, and the seconds that these
rounds took, each from the start of its process to its end. These are figures to plan with. To stop there would be no
declared number of rounds: an interval that may end a run by being narrow is narrow by luck, too, and no longer a 95 %
one.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vggbench.errors import NothingToJudge, VggbenchError
from vggbench.measure.records import RoundRecord
from vggbench.results.figures import in_time_order, launch_figure_ms, launches
from vggbench.results.journal import read_rounds
from vggbench.results.run_info import RunInfo, read_run_info
from vggbench.stats import hodges_lehmann, signed_rank_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How the interval of a cell narrowed.

    Attributes:
        half_widths: in percent of the estimate, after each number of rounds from the first that has an interval.
        first: that number of rounds.
        seconds: that each round took, its process's start, parity, end to end and throughput included.
        measuring_seconds: of these, of compute samples.
    """

    title: str
    half_widths: tuple[float, ...]
    first: int
    seconds: tuple[float, ...]
    measuring_seconds: tuple[float, ...]

    def rounds_until(self, percent: float) -> int | None:
        """Return how many rounds it took; None where they were too few."""
        narrow = [number for number, width in enumerate(self.half_widths, start=self.first) if width <= percent]
        return narrow[0] if narrow else None


def courses_of(info: RunInfo, records: Sequence[RoundRecord]) -> list[Course]:
    """Return a course for each cell that has an interval; `NothingToJudge` where none has."""
    by_cell = {cell.title: [record for record in records if record.cell_id == cell.id] for cell in info.plan.cells}
    found = [_course(title, own) for title, own in by_cell.items()]
    courses = [course for course in found if course.half_widths]
    if not courses:
        raise NothingToJudge("no cell has rounds enough for an interval; make a run with --rounds 40")
    return courses


def _course(title: str, records: Sequence[RoundRecord]) -> Course:
    timed = [record for record in in_time_order(records) if record.failure is None and launches([record], "compute")]
    blocks = [launches([record], "compute")[0] for record in timed]
    widths = _half_widths([launch_figure_ms(found) for found in blocks])
    return Course(
        title=title,
        half_widths=widths,
        first=len(timed) - len(widths) + 1,
        seconds=tuple(record.seconds for record in timed),
        measuring_seconds=tuple(float(sum(block.sum() for block in found)) / 1e9 for found in blocks),
    )


def _half_widths(figures: Sequence[float]) -> tuple[float, ...]:
    widths = []
    for count in range(1, len(figures) + 1):
        interval = signed_rank_interval(figures[:count])
        if interval is not None:
            middle = hodges_lehmann(figures[:count])
            widths.append(100 * max(middle - interval[0], interval[1] - middle) / middle)
    return tuple(widths)


def lines_of(courses: Sequence[Course], percent: float) -> list[str]:
    """Return a table in Markdown."""
    lines = [f"| cell | rounds to ±{percent:g} % | seconds | of them timing requests | ± % after all rounds |"]
    lines.append("| --- | --- | --- | --- | --- |")
    return [*lines, *(_line(course, percent) for course in courses)]


def _line(course: Course, percent: float) -> str:
    needed = course.rounds_until(percent)
    taken, more = (needed, "") if needed else (len(course.seconds), "more than ")
    seconds, measuring = sum(course.seconds[:taken]), sum(course.measuring_seconds[:taken])
    reached = f"{course.half_widths[-1]:.2f} ({len(course.seconds)})"
    return f"| {course.title} | {more}{taken} | {more}{seconds:.0f} | {measuring:.0f} | {reached} |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a run with many rounds")
    parser.add_argument("--percent", type=float, default=2.0, help="half-width of the interval; 2 without it")
    options = parser.parse_args(arguments)
    try:
        info = read_run_info(options.run)
        courses = courses_of(info, read_rounds(options.run, info.plan))
    except VggbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(lines_of(courses, options.percent)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
