"""The report as Markdown, cut to what a pull request's comment or a step's summary takes. No torch, no pandas."""

from __future__ import annotations

from collections.abc import Sequence

from vggbench.gate.formats import HEADINGS, head_lines, headline, rule_lines, table_lines
from vggbench.gate.records import GateReport
from vggbench.report.markdown import escaped

COMMENT_BYTES = 65_000  # GitHub takes 65,536 characters in a comment
LONGEST_TEXT = 400  # characters of one cell of the table: a reason may quote a library's whole message


def page(report: GateReport, limit_bytes: int = COMMENT_BYTES) -> str:
    """Return the page in at most so many bytes of UTF-8: worst first, and what did not fit is counted.

    Raises `ValueError` where the limit leaves no room even for the page's head.
    """
    top = [f"## vggbench {report.kind}: {headline(report)}", "", *(f"- {_short(line)}" for line in head_lines(report))]
    top += ["", _line(HEADINGS), _line(["---"] * len(HEADINGS))]
    bottom = ["", *(f"{_short(line)}\n" for line in rule_lines(report))]
    lines = [_line([_short(text) for text in texts]) for texts in table_lines(report)]
    room = limit_bytes - _size([*top, *bottom, _left_out(len(lines), len(lines))])
    if room < 0:
        raise ValueError(f"{limit_bytes} bytes have no room for the page's head")
    kept = _fitting(lines, room)
    left = [] if kept == len(lines) else [_left_out(len(lines) - kept, len(lines))]
    return "\n".join([*top, *lines[:kept], *left, *bottom]).rstrip() + "\n"


def _fitting(lines: Sequence[str], room: int) -> int:
    for number, line in enumerate(lines):
        room -= _size([line])
        if room < 0:
            return number
    return len(lines)


def _left_out(count: int, cells: int) -> str:
    return f"\n{count} of {cells} cells, the best, did not fit; `--format json` has all of them."


def _size(lines: Sequence[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)


def _short(text: str) -> str:
    kept = text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 3]}..."
    return escaped(kept)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell or " " for cell in cells) + " |"
