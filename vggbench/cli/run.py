"""`vggbench run`: build, export, verify, measure and report on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggbench.cli.images import InputsOption, showing
from vggbench.cli.options import JsonOption, folder
from vggbench.cli.planning import CellChoice, ExportsOption, takes_cells
from vggbench.cli.room import announce_plan
from vggbench.errors import RequestError

if TYPE_CHECKING:
    from vggbench.plan import Cell, Pace, Plan, PlanFile
    from vggbench.results.columns import Row

_MEASURING = "Measuring"

RoundsOption = Annotated[
    int | None,
    typer.Option(
        "--rounds",
        metavar="N",
        help="Fresh processes a cell; 6 without it, the fewest that give an interval.",
        show_default=False,
        rich_help_panel=_MEASURING,
    ),
]
ReplicasOption = Annotated[
    int | None,
    typer.Option(
        "--replicas",
        metavar="N",
        help="Rows of each cell: 2 show whether two measurements of the same thing agree.",
        show_default=False,
        rich_help_panel=_MEASURING,
    ),
]
BudgetOption = Annotated[
    float | None,
    typer.Option(
        "--time-budget-s",
        metavar="SECONDS",
        help="Measuring time of the whole run; starting, exporting and verifying come on top.",
        show_default=False,
        rich_help_panel=_MEASURING,
    ),
]
RooflineOption = Annotated[
    bool,
    typer.Option(
        "--no-roofline",
        help="Leave out measuring the machine's own ceilings, which takes up to 20 s before and after.",
        rich_help_panel=_MEASURING,
    ),
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Exit with 5 if any row is not ok.", rich_help_panel=_MEASURING)
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="DIR",
        help="The run's folder; reports/<time> without it.",
        parser=folder,
        show_default=False,
        rich_help_panel="Places",
    ),
]
ResumeOption = Annotated[
    bool,
    typer.Option("--resume", help="Continue the run in --output where it stopped.", rich_help_panel="Places"),
]
RetryOption = Annotated[
    bool,
    typer.Option(
        "--retry-failed",
        help="With --resume: make again the rounds that failed or timed out.",
        rich_help_panel="Places",
    ),
]


@takes_cells
def run(
    choice: CellChoice,
    data: InputsOption = None,
    rounds: RoundsOption = None,
    replicas: ReplicasOption = None,
    time_budget_s: BudgetOption = None,
    no_roofline: RooflineOption = False,
    strict: StrictOption = False,
    output: OutputOption = None,
    exports: ExportsOption = Path("exports"),
    resume: ResumeOption = False,
    retry_failed: RetryOption = False,
    json_output: JsonOption = False,
) -> None:
    """Build, export, verify, measure and report on this machine.

    Without options: vgg16_bn at batch 1 on every backend that works here, in fp32 and what else it does natively; on a
    GPU at batches 1, 8 and 32, in two short rounds.
    """
    from vggbench.cli.progress import progress
    from vggbench.measure.saturation import saturate
    from vggbench.runner import Places, default_folder, plan_ceilings, resume_run, start_run

    gauge = None if no_roofline else plan_ceilings
    if resume:
        folder = _folder_to_resume(choice, output, data, rounds, replicas, time_budget_s)
        with progress() as observer:
            places = Places(folder=folder, exports=exports)
            rows = resume_run(places, retry_failed=retry_failed, observer=observer, gauge=gauge, search=saturate)
    elif retry_failed:
        raise RequestError("--retry-failed needs --resume, and --output with the run's folder")
    else:
        plan, versions = _make_plan(choice, rounds, replicas, time_budget_s, showing(data, exports))
        announce_plan(plan, exports)
        folder = output or default_folder()
        with progress() as observer:
            places = Places(folder=folder, exports=exports)
            rows = start_run(plan, places, backend_versions=versions, observer=observer, gauge=gauge, search=saturate)
    _show(rows, folder, strict=strict, json_output=json_output)


def _folder_to_resume(
    choice: CellChoice,
    output: Path | None,
    data: Path | None,
    rounds: int | None,
    replicas: int | None,
    time_budget_s: float | None,
) -> Path:
    """Return the folder; `RequestError` if it is not named, or something else is asked beside it."""
    if output is None:
        raise RequestError("--resume needs --output: the folder of the run to continue")
    if choice.is_given or any(value is not None for value in (data, rounds, replicas, time_budget_s)):
        raise RequestError("--resume continues the run's own plan; give no other cells, rounds or times beside it")
    return output


def _make_plan(
    choice: CellChoice,
    rounds: int | None,
    replicas: int | None,
    time_budget_s: float | None,
    show: Callable[[tuple[Cell, ...]], tuple[Cell, ...]],
) -> tuple[Plan, dict[str, str]]:
    from vggbench.plan import GPU_BUDGET_S, GPU_ROUNDS

    file = choice.read_file()
    pace = _pace(file, rounds, replicas, time_budget_s)
    pace.plan(())  # a wrong number is said before backends are probed
    cells, versions = choice.read_cells(file, broad=True)
    if _is_for_a_look(choice, cells):
        pace = replace(
            pace,
            rounds=GPU_ROUNDS if rounds is None else rounds,
            time_budget_s=GPU_BUDGET_S if time_budget_s is None else time_budget_s,
            # To try several requests in flight, every cell would have to be opened, and compiled, once more.
            search_in_flight=False,
        )
    return pace.plan(show(cells)), versions


def _is_for_a_look(choice: CellChoice, cells: tuple[Cell, ...]) -> bool:
    """Say whether nothing was chosen, on a GPU: everything there is, measured shortly, in under ten minutes."""
    return not choice.chosen and choice.plan is None and cells[0].device != "cpu"


def _pace(file: PlanFile | None, rounds: int | None, replicas: int | None, time_budget_s: float | None) -> Pace:
    """Lay the plan file's values over the defaults and the command line's over both."""
    from vggbench.plan import Pace

    said = {"rounds": rounds, "replicas": replicas, "time_budget_s": time_budget_s}
    names = (*said, "round_seconds", "seed", "search_in_flight")
    values = {name: getattr(file, name) for name in names} if file else {}
    values |= {name: value for name, value in said.items() if value is not None}
    return Pace(**{name: value for name, value in values.items() if value is not None})


def _show(rows: list[Row], folder: Path, *, strict: bool, json_output: bool) -> None:
    from vggbench.cli.results import judge, print_json, print_report
    from vggbench.report.derive import DERIVED_NAMES

    if json_output:
        print_json(rows)
    else:
        print_report(rows)
        print(f"written to {folder}: {', '.join(DERIVED_NAMES)}")
    judge(rows, strict=strict)
