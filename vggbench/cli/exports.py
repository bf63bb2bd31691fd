"""`vggbench exports list|prune`: what the exports folder holds, and making room there. Imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vggbench.cli.options import JsonOption, split_commas
from vggbench.cli.planning import ExportsOption
from vggbench.cli.tables import plain_table, print_table
from vggbench.errors import RequestError

if TYPE_CHECKING:
    from vggbench.artefacts.inventory import Entry

_MIB = 2**20
_HASH_CHARACTERS = 12  # of a hash: what a row's reader compares by eye
_CHOICE = "What to remove; several of these narrow it down"

app = typer.Typer(no_args_is_help=True)

CheckOption = Annotated[
    bool, typer.Option("--check", help="Hash every file too, instead of looking at its size: reads all of them.")
]
OlderOption = Annotated[
    float | None,
    typer.Option(
        "--older-than",
        metavar="DAYS",
        help="What was made longer ago than that.",
        show_default=False,
        rich_help_panel=_CHOICE,
    ),
]
VariantsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--variant",
        metavar="NAME",
        help="Artefacts of that network, as `exports list` has it. Repeatable, and a,b,c.",
        show_default=False,
        rich_help_panel=_CHOICE,
    ),
]
UnfinishedOption = Annotated[
    bool,
    typer.Option(
        "--unfinished", help="What killed exports left, and artefacts that are broken.", rich_help_panel=_CHOICE
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="Every artefact.", rich_help_panel=_CHOICE)]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")]


@app.command("list")
def list_exports(
    exports: ExportsOption = Path("exports"), check: CheckOption = False, json_output: JsonOption = False
) -> None:
    """List the artefacts: variant, precision, format, size, age, and whether they are whole."""
    from vggbench.artefacts.inventory import survey

    entries, now = survey(exports, hashes=check), datetime.now(UTC)
    if json_output:
        total = sum(entry.bytes for entry in entries) / _MIB
        print(json.dumps({"artefacts": [_record(entry, now) for entry in entries], "total_mib": total}, indent=2))
        return
    _print_table(entries, now)
    for entry in entries:
        if entry.reason:
            print(f"broken: {entry.reason}")


@app.command("prune")
def prune_exports(
    older_than: OlderOption = None,
    variant: VariantsOption = None,
    unfinished: UnfinishedOption = False,
    everything: AllOption = False,
    dry_run: DryRunOption = False,
    exports: ExportsOption = Path("exports"),
    json_output: JsonOption = False,
) -> None:
    """Remove artefacts and say what that freed; what is missing is made again when it is needed.

    Nothing is removed that has no manifest of vggbench's, and nothing of a network that is being exported.
    """
    from vggbench.artefacts.inventory import prune, survey

    names = split_commas(variant)
    _check_choice(older_than, bool(names or unfinished), everything)
    entries, now = survey(exports), datetime.now(UTC)
    _check_names(names, entries, exports)

    def chosen(entry: Entry) -> bool:
        return (
            (older_than is None or entry.age_days(now) > older_than)
            and (not names or entry.variant in names)
            and (not unfinished or entry.state in {"unfinished", "broken"})
        )

    gone: list[Entry] = []
    try:
        if dry_run:
            gone += [entry for entry in entries if entry.state != "foreign" and chosen(entry)]
        else:
            prune(exports, chosen, gone.append)
    finally:  # what was removed is said, also where something else could not be
        _print_removed(gone, now, dry_run=dry_run, json_output=json_output)


def _check_choice(older_than: float | None, narrowed: bool, everything: bool) -> None:
    if older_than is not None and not 0 <= older_than < float("inf"):
        raise RequestError(f"--older-than is {older_than:g}; it must be a number of days from 0")
    some = older_than is not None or narrowed
    if some == everything:
        raise RequestError(
            "--all removes every artefact; give it alone"
            if everything
            else "say what to remove: --older-than, --variant, --unfinished or --all"
        )


def _check_names(names: list[str], entries: Iterable[Entry], exports: Path) -> None:
    known = list(dict.fromkeys(entry.variant for entry in entries))
    for name in names:
        if name not in known:
            raise RequestError(f"{exports} has no artefact of {name!r}; there are {', '.join(known) or 'none'}")


def _record(entry: Entry, now: datetime) -> dict[str, Any]:
    return {
        "variant": entry.variant,
        "precision": entry.precision,
        "format": entry.format,
        "input_size": entry.input_size,
        "artefact_mib": entry.bytes / _MIB,
        "made_at": entry.made_at.isoformat(timespec="seconds"),
        "age_days": entry.age_days(now),
        "state": entry.state,
        "reason": entry.reason or None,
        "artefact_sha256": entry.sha256 or None,
        "path": str(entry.folder),
    }


def _print_table(entries: list[Entry], now: datetime) -> None:
    from rich.text import Text

    table = plain_table()
    right = {"input", "MiB", "age"}
    for heading in ("variant", "precision", "input", "format", "MiB", "age", "state", "SHA-256"):
        table.add_column(heading, justify="right" if heading in right else "left")
    for entry in entries:
        size, age = f"{entry.bytes / _MIB:.1f}", _age(entry.age_days(now))
        cells = (entry.variant, entry.precision, str(entry.input_size), entry.format, size, age, entry.state)
        table.add_row(*(Text(cell) for cell in (*cells, entry.sha256[:_HASH_CHARACTERS])))  # names, not rich's markup
    table.add_section()
    total = sum(entry.bytes for entry in entries) / _MIB
    table.add_row("total", "", "", "", f"{total:.1f}", "", str(len(entries)), "")
    print_table(table)


def _age(days: float) -> str:
    units: tuple[tuple[float, Callable[[float], str]], ...] = (
        (1 / 24, lambda days: f"{days * 1440:.0f} min"),
        (2, lambda days: f"{days * 24:.0f} h"),
    )
    return next((write(days) for limit, write in units if days < limit), f"{days:.0f} d")


def _print_removed(gone: list[Entry], now: datetime, *, dry_run: bool, json_output: bool) -> None:
    freed = sum(entry.bytes for entry in gone) / _MIB
    if json_output:
        records = [_record(entry, now) for entry in gone]
        print(json.dumps({"dry_run": dry_run, "removed": records, "freed_mib": freed}, indent=2))
        return
    for entry in gone:
        print(f"{entry.folder} ({entry.state}, {entry.bytes / _MIB:.1f} MiB)")
    verb = "would be removed, and free" if dry_run else "removed, freed"
    print(f"{len(gone)} {verb} {freed:.1f} MiB")
