"""`vggbench report`: derive a run's tables again from what was stored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vggbench.cli.options import JsonOption

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.", show_default=False)]


def report(run: RunArgument, json_output: JsonOption = False) -> None:
    """Write a run's results.csv, samples.parquet and summary.md again, and print its table."""
    from vggbench.cli.results import print_json, print_report
    from vggbench.report.derive import derive_again

    rows = derive_again(run)
    if json_output:
        print_json(rows)
    else:
        print_report(rows)
