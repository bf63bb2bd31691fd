"""`vggbench baseline refresh`: keep a run for later ones to be compared with, and say who did so and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vggbench.cli.options import folder

app = typer.Typer(add_completion=False, no_args_is_help=True)

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.", parser=folder)]
WhyOption = Annotated[
    str, typer.Option("--why", metavar="TEXT", help="Why the baseline changes, for whoever reads it later.")
]
ByOption = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="Who does it; git's user without it.", show_default=False),
]
MachineOption = Annotated[
    str | None,
    typer.Option(
        "--machine",
        metavar="NAME",
        help="The machine's folder; named after the run's device and threads without it.",
        show_default=False,
    ),
]
KeepOption = Annotated[
    int | None,
    typer.Option(
        "--keep",
        metavar="N",
        help="Remove the oldest runs beyond so many, 5 or more; all are kept without it.",
        show_default=False,
    ),
]
BaselinesOption = Annotated[
    Path, typer.Option("--baselines", metavar="DIR", help="Where baselines are kept.", parser=folder)
]


@app.callback()
def _group() -> None:
    """Keep the runs that later ones are compared with."""


@app.command("refresh")
def refresh(
    run: RunArgument,
    why: WhyOption,
    by: ByOption = None,
    machine: MachineOption = None,
    keep: KeepOption = None,
    baselines: BaselinesOption = Path("benchmarks/baselines"),
) -> None:
    """Put a run among the baselines of its machine, and note who did so, when and why.

    `vggbench compare` takes the machine's folder as its base runs, and decides from 5 runs up.
    """
    from vggbench.gate.baselines import git_user, kept_runs
    from vggbench.gate.baselines import refresh as refresh_baseline
    from vggbench.gate.comparing import LEAST_BASE_RUNS

    who = git_user() if by is None else by
    place, noted = refresh_baseline(run, baselines, by=who, why=why, machine=machine, keep=keep)
    runs = len(kept_runs(place))
    print(f"{place / noted.added}: added by {noted.by}: {noted.why}")
    for name in noted.removed:
        print(f"{place / name}: removed")
    needed = f"; a comparison decides from {LEAST_BASE_RUNS} up" if runs < LEAST_BASE_RUNS else ""
    print(f"{runs} runs are this machine's baselines{needed}: vggbench compare {place} CANDIDATE_RUN")
