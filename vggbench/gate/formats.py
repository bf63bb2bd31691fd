"""A report as texts that every format shares: worst first, one line a cell; and as JSON. No markup in here.

Standard library and `report.table` only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, get_args

from vggbench.gate.records import VERDICTS, CellVerdict, GateReport, MissingCell
from vggbench.report.table import significant

FormatName = Literal["table", "markdown", "json", "junit", "github"]
FORMATS: tuple[FormatName, ...] = get_args(FormatName)

HEADINGS = ("verdict", "cell", "base ms", "head ms", "head / base", "95 %", "found 9 in 10", "rounds", "why")
MISSING = "MISSING"  # shown where a verdict stands; no cell that is on both sides has it


def worst_first(report: GateReport) -> list[CellVerdict]:
    """Return the verdicts, worst first, and among equal ones the slowest first."""
    return sorted(report.verdicts, key=lambda found: (VERDICTS.index(found.verdict), -(found.ratio or 0), found.title))


def table_lines(report: GateReport) -> list[tuple[str, ...]]:
    """Return the texts under `HEADINGS`, one line a cell: those on one side first, then worst first."""
    return [*map(_missing_texts, report.missing), *map(verdict_texts, worst_first(report))]


def verdict_texts(found: CellVerdict) -> tuple[str, ...]:
    """Return a cell's texts under `HEADINGS`; missing is empty."""
    return (
        found.verdict,
        found.title,
        significant(found.base_ms),
        significant(found.head_ms),
        _ratio(found.ratio),
        f"{_ratio(found.low)} to {_ratio(found.high)}" if found.low is not None else "",
        "" if found.mde90 is None else f"{found.mde90:.1%}",
        str(found.rounds or ""),
        "; ".join(found.reasons),
    )


def headline(report: GateReport) -> str:
    """Return what it comes to in a sentence."""
    counts = [f"{report.count(verdict)} {verdict}" for verdict in VERDICTS if report.count(verdict)]
    counts += [f"{len(report.missing)} {MISSING}"] * bool(report.missing)
    return f"{len(report.verdicts)} cells compared: {', '.join(counts) or 'none'}"


def head_lines(report: GateReport) -> list[str]:
    """Return what stands above the cells: what differs comes first, then what the sides are."""
    changes = [f"{name}: {_value(base)} -> {_value(head)}" for name, (base, head) in report.differences.items()]
    return [*(changes or ["no difference was read"]), f"base: {report.base}", f"head: {report.head}"]


def rule_lines(report: GateReport) -> list[str]:
    """Return by which rule it was decided, then the notes."""
    rule = report.rule
    stages = " + ".join(str(count) for count, _ in rule.stages)
    text = f"slower by more than {rule.tolerance:.3g} is REGRESSED, surely by less than {rule.budget:.3g} is PASS"
    if report.kind == "gate":
        text += f"; {stages} rounds, the first {rule.dropped_iterations} iterations of a block do not count"
    if report.false_alarm_rate is not None:
        text += f"; of the same thing it says REGRESSED anywhere in at most {report.false_alarm_rate:.2%} of cases"
    return [text, *report.notes]


def to_json(report: GateReport) -> str:
    """Return the report as JSON; a cell has the names of a row's columns, and those of the verdict."""
    rule = asdict(report.rule)
    document = {
        "kind": report.kind,
        "exit_code": report.exit_code,
        "base": report.base,
        "head": report.head,
        "differences": {name: {"base": base, "head": head} for name, (base, head) in report.differences.items()},
        "rule": rule if report.kind == "gate" else {name: rule[name] for name in ("tolerance", "budget")},
        "false_alarm_rate": report.false_alarm_rate,
        "notes": report.notes,
        "missing": [asdict(cell) for cell in report.missing],
        "cells": [cell_json(found) for found in worst_first(report)],
    }
    return json.dumps(document, indent=1, allow_nan=False)


def cell_json(found: CellVerdict) -> Mapping[str, Any]:
    """Return a cell as plain data: missing is null, never 0."""
    values = asdict(found)
    low, high = values.pop("low"), values.pop("high")
    base_ms, head_ms = values.pop("base_ms"), values.pop("head_ms")
    named = {"ratio_low": low, "ratio_high": high, "base_latency_ms": base_ms, "head_latency_ms": head_ms}
    return {**values.pop("identity"), **values, **named}


def _missing_texts(cell: MissingCell) -> tuple[str, ...]:
    return (MISSING, cell.title, *[""] * (len(HEADINGS) - 3), f"{cell.missing_in} does not have it")


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _value(value: object) -> str:
    return "none" if value is None else str(value)
