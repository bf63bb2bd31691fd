"""`vggbench profile`: what a request spends its time on, layer by layer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggbench.cli.options import JsonOption
from vggbench.cli.planning import CellChoice, ExportsOption, takes_cells
from vggbench.errors import RequestError

if TYPE_CHECKING:
    from vggbench.results.columns import Row
    from vggbench.results.layers import CellProfile

_PROFILE = "Profile"

RequestsOption = Annotated[
    int | None,
    typer.Option(
        "--requests",
        metavar="N",
        help="Requests to profile; about 3 s of them, and 5 at least, without it.",
        show_default=False,
        rich_help_panel=_PROFILE,
    ),
]
NoRooflineOption = Annotated[
    bool,
    typer.Option(
        "--no-roofline",
        help="Do not measure what the machine can do at best: no percent of attainable, up to 20 s less.",
        rich_help_panel=_PROFILE,
    ),
]
CsvOption = Annotated[
    Path | None,
    typer.Option(
        "--csv",
        metavar="FILE",
        help="Write every operation of every cell there, too.",
        show_default=False,
        rich_help_panel="Places",
    ),
]


@takes_cells
def profile(
    choice: CellChoice,
    requests: RequestsOption = None,
    no_roofline: NoRooflineOption = False,
    csv: CsvOption = None,
    exports: ExportsOption = Path("exports"),
    json_output: JsonOption = False,
) -> None:
    """Show what each layer takes, and how near that is to what the machine can do.

    By each backend's own profiler, in a process of its own whose parity is checked; no figure of `run` has it in it.
    """
    from vggbench.cli.progress import progress
    from vggbench.cli.results import judge_verification
    from vggbench.plan import Pace
    from vggbench.profiling import profile_plan
    from vggbench.report.layers import profile_csv
    from vggbench.results.run_folder import write_whole
    from vggbench.runner import plan_ceilings

    _check(requests, csv)
    cells, versions = choice.read_cells(choice.read_file())
    with progress() as observer:
        rows, profiles = profile_plan(
            Pace(rounds=1).plan(cells),
            exports,
            backend_versions=versions,
            requests=requests,
            observer=observer,
            gauge=None if no_roofline else plan_ceilings,
        )
    if csv is not None:
        write_whole(csv, lambda file: file.write(profile_csv(rows, profiles)))
    _show(rows, profiles, json_output=json_output)
    judge_verification(rows)


def _check(requests: int | None, csv: Path | None) -> None:
    """Refuse what would be noticed only after minutes of measuring."""
    from vggbench.measure.profiling import LEAST_REQUESTS, MOST_REQUESTS

    if requests is not None and not LEAST_REQUESTS <= requests <= MOST_REQUESTS:
        raise RequestError(f"requests is {requests}; it must be from {LEAST_REQUESTS} to {MOST_REQUESTS}")
    if csv is not None and (csv.is_dir() or not csv.parent.is_dir()):
        reason = "is a folder" if csv.is_dir() else "lies in a folder that is not there"
        raise RequestError(f"{csv} {reason}; name a file that can be written with --csv")


def _show(rows: Sequence[Row], profiles: Mapping[str, CellProfile], *, json_output: bool) -> None:
    from vggbench.cli.results import print_reasons
    from vggbench.report.layers import profile_document

    if json_output:
        print(json.dumps([profile_document(row, profiles.get(row.cell_id or "")) for row in rows], indent=1))
        return
    for row in rows:
        if found := profiles.get(row.cell_id or ""):
            _print_profile(row, found)
    print_reasons(rows)


def _print_profile(row: Row, profile: CellProfile) -> None:
    from rich.text import Text

    from vggbench.cli.tables import plain_table, print_table
    from vggbench.report.layers import HEADINGS, profile_lines, profile_remarks
    from vggbench.report.table import row_title

    lines = profile_lines(profile)
    shown = [number for number in range(len(HEADINGS)) if any(line[number] for line in lines)]
    table = plain_table()
    for number in shown:
        table.add_column(HEADINGS[number], justify="left" if number in {0, 1, len(HEADINGS) - 1} else "right")
    for line in lines:
        table.add_row(*(Text(line[number]) for number in shown))  # names from files of users, not rich's markup
    print(row_title(row))
    print_table(table)
    print(*profile_remarks(profile), "", sep="\n")
