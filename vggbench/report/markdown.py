"""The run as a page of Markdown: what was asked, where, the table, and what is wrong with its rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from vggbench.measure.roofline import COMPUTE, Ceiling, best
from vggbench.report.table import HEADINGS, best_first, row_title, table_cells
from vggbench.results.columns import Row
from vggbench.results.run_info import RunInfo

# What starts markup inside a line of Markdown; an underscore within a word does not.
_MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)")


def summary(info: RunInfo, rows: Sequence[Row]) -> str:
    """Return the page."""
    ordered = best_first(rows)
    return "\n".join([*_head(info, rows), "", *_table(ordered), "", *_findings(ordered)]).rstrip() + "\n"


def _head(info: RunInfo, rows: Sequence[Row]) -> list[str]:
    plan = info.plan
    good = sum(row.status == "ok" for row in rows)
    libraries = info.environment.get("libraries", {})
    versions = ", ".join(f"{name} {version}" for name, version in libraries.items() if version)
    return [
        "# vggbench run",
        "",
        (
            f"{good} of {len(rows)} rows are ok. Started {info.started_at} on {info.device_name}, "
            f"{plan.cells[0].threads} threads, {plan.rounds} rounds, vggbench {info.vggbench_version}."
        ),
        "",
        f"Versions: {versions}.",
        *_variables(info),
        *_ceilings(info),
    ]


def _variables(info: RunInfo) -> list[str]:
    """Return what was set in the environment that changes how libraries compute."""
    found = info.environment.get("variables", {})
    text = ", ".join(f"{name}={value}" for name, value in found.items())
    return ["", f"Environment variables: {escaped(text)}."] if text else []


def _ceilings(info: RunInfo) -> list[str]:
    """Return the machine's own limits, each with the slowest and the fastest it was seen at during the run."""
    kinds = dict.fromkeys((ceiling.quantity, ceiling.precision) for ceiling in info.ceilings)
    texts = [_ceiling(info.ceilings, *kind) for kind in kinds]
    return ["", f"Ceilings measured at start and end: {'; '.join(texts)}."] if texts else []


def _ceiling(ceilings: Sequence[Ceiling], quantity: str, precision: str) -> str:
    top = best(ceilings, quantity, precision)
    assert top is not None, "the kind was taken from the ceilings themselves"
    same = [ceiling for ceiling in ceilings if _kind(ceiling) == _kind(top)]
    what = f"{precision} {top.kernel}" if precision else top.kernel
    unit = "GFLOP/s" if quantity == COMPUTE else "GB/s"
    low, high = min(ceiling.low for ceiling in same) / 1e9, max(ceiling.high for ceiling in same) / 1e9
    return f"{what} in {top.library} {top.rate / 1e9:.3g} {unit} ({low:.3g} to {high:.3g})"


def _kind(ceiling: Ceiling) -> Ceiling:
    """Return what was measured without the figures: equal for the start's and the end's."""
    return replace(ceiling, rate=0, low=0, high=0, measured_at="")


def _table(rows: Sequence[Row]) -> list[str]:
    lines = ["| " + " | ".join(HEADINGS) + " |", "| " + " | ".join("---" for _ in HEADINGS) + " |"]
    return lines + ["| " + " | ".join(escaped(cell) or " " for cell in table_cells(row)) + " |" for row in rows]


def _findings(rows: Sequence[Row]) -> list[str]:
    found = [row for row in rows if row.reasons]
    if not found:
        return []
    lines = [f"- {escaped(f'{row_title(row)}: {row.status}: {row.reasons}')}" for row in found]
    return ["## Findings", "", *lines]


def escaped(text: str) -> str:
    """Return text as one line in which nothing is markup: a reason may quote what a library printed."""
    line = " ".join(text.split())
    return _MARKUP.sub(r"\\\g<0>", line.replace("&", "&amp;").replace("<", "&lt;"))
