"""The report for GitHub Actions: annotations on stdout, and the page of a step's summary. Standard library only."""

from __future__ import annotations

from vggbench.gate.formats import MISSING, headline, table_lines
from vggbench.gate.markdown import page
from vggbench.gate.records import GateReport

SUMMARY_BYTES = 2**20 - 1  # of one step; GitHub shows nothing of a larger one
MOST_ANNOTATIONS = 10  # of a kind in a step; further ones are dropped without a word
_KINDS = {MISSING: "error", "REGRESSED": "error", "INVALID": "error", "INCONCLUSIVE": "warning", "IMPROVED": "notice"}


def workflow_commands(report: GateReport) -> str:
    """Return one workflow command a line, worst first; a cell that passed has none.

    Where there are more of a kind than GitHub shows, the last says how many.
    """
    grouped: dict[str, list[str]] = {}
    for verdict, title, _, _, ratio, interval, _, _, why in table_lines(report):
        if verdict in _KINDS:
            message = " ".join(text for text in (ratio, f"({interval})" if interval else "", why) if text)
            grouped.setdefault(_KINDS[verdict], []).append(_command(_KINDS[verdict], f"{verdict} {title}", message))
    if not report.verdicts:
        grouped.setdefault("error", []).append(_command("error", "vggbench", headline(report)))
    return "\n".join(line for kind, lines in grouped.items() for line in _shown(kind, lines))


def summary(report: GateReport, present_bytes: int = 0) -> str:
    """Return the page that is appended to a summary which already has so many bytes; `ValueError` if it is full."""
    return page(report, SUMMARY_BYTES - present_bytes)


def _shown(kind: str, lines: list[str]) -> list[str]:
    if len(lines) <= MOST_ANNOTATIONS:
        return lines
    more = len(lines) - MOST_ANNOTATIONS + 1
    return [*lines[: MOST_ANNOTATIONS - 1], _command(kind, "vggbench", f"{more} more; the summary has them")]


def _command(kind: str, title: str, message: str) -> str:
    """Return a workflow command, escaped as actions/toolkit's core/src/command.ts does."""
    return f"::{kind} title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
