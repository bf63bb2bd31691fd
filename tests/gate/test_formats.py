"""Every format is read back by a parser of its own, hostile names and large tables included."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gate.made import IDENTITY
from vggbench.gate import formats, github, junit, markdown
from vggbench.gate.records import CellVerdict, GateReport, MissingCell, Rule, VerdictName
from vggbench.results.columns import COLUMNS

HOSTILE = 'a|b <script> & "c" `d`\n::error::x % , : ]]> \x1b[31mred\x00'


def verdict(name: VerdictName = "PASS", title: str = "vgg11 torch fp32 batch 1", **changes: Any) -> CellVerdict:
    codes = {"REGRESSED": 1, "INVALID": 3, "INCONCLUSIVE": 3}
    figures = {"ratio": 1.05, "low": 1.04, "high": 1.06, "mde90": 0.02, "rounds": 7, "base_ms": 10.0, "head_ms": 10.5}
    values = {"cell_id": title, "title": title, "identity": IDENTITY, "verdict": name, "exit_code": codes.get(name, 0)}
    return CellVerdict(**{**values, **figures, **changes})


def report(*verdicts: CellVerdict, **changes: Any) -> GateReport:
    values: dict[str, Any] = {
        "kind": "gate",
        "base": "torch 2.13",
        "head": "torch 2.14",
        "rule": Rule(),
        "verdicts": verdicts,
        "differences": {"libraries.torch": ("2.13", "2.14"), "libraries.openvino": (None, "2026.4")},
        "false_alarm_rate": 0.0077,
    }
    return GateReport(**{**values, **changes})


MIXED = report(
    verdict("PASS", "good"),
    verdict("REGRESSED", "slow", reasons=("both stages find it slower",), flagged=True),
    verdict("INVALID", "dead", ratio=None, low=None, high=None, mde90=None, reasons=("head: it crashed",), exit_code=5),
    verdict("INCONCLUSIVE", "unsure", reasons=("it may be slower by 5.0%",)),
    verdict("IMPROVED", "fast", ratio=0.9),
    missing=(MissingCell("x", "gone", "head"),),
)
LARGE = report(
    *(verdict("PASS", f"vgg16_bn torch cell {number}", reasons=("because " * 60,)) for number in range(4999)),
    verdict("REGRESSED", "the slow one", reasons=("slower",)),
)


def titles(lines: Sequence[Sequence[str]]) -> list[str]:
    return [line[1] for line in lines]


def test_worst_is_first_and_differences_are_above() -> None:
    assert titles(formats.table_lines(MIXED)) == ["gone", "slow", "dead", "unsure", "fast", "good"]
    assert formats.head_lines(MIXED)[:2] == ["libraries.torch: 2.13 -> 2.14", "libraries.openvino: none -> 2026.4"]
    assert formats.headline(MIXED) == (
        "5 cells compared: 1 REGRESSED, 1 INVALID, 1 INCONCLUSIVE, 1 IMPROVED, 1 PASS, 1 MISSING"
    )
    assert formats.head_lines(replace(MIXED, differences={}))[0] == "no difference was read"


def test_among_equal_verdicts_the_slowest_is_first() -> None:
    found = report(verdict("PASS", "a", ratio=1.0), verdict("PASS", "b", ratio=1.02), verdict("PASS", "c", ratio=None))
    assert titles(formats.table_lines(found)) == ["b", "a", "c"]


def test_a_line_has_its_figures() -> None:
    texts = dict(zip(formats.HEADINGS, formats.verdict_texts(verdict("PASS")), strict=True))
    assert texts["head / base"] == "1.050"
    assert texts["95 %"] == "1.040 to 1.060"
    assert texts["found 9 in 10"] == "2.0%"
    assert (texts["base ms"], texts["head ms"], texts["rounds"]) == ("10.0", "10.5", "7")


def test_the_rule_and_its_rate_are_declared() -> None:
    (text, note) = formats.rule_lines(replace(MIXED, notes=("a note",)))
    assert "7 + 8 rounds, the first 5 iterations of a block do not count" in text
    assert "at most 0.77% of cases" in text
    assert note == "a note"
    assert "rounds" not in formats.rule_lines(replace(MIXED, kind="compare", false_alarm_rate=None))[0]


def test_json_has_the_names_of_columns() -> None:
    document = json.loads(formats.to_json(MIXED))
    assert document["exit_code"] == 1
    assert document["differences"]["libraries.torch"] == {"base": "2.13", "head": "2.14"}
    assert document["missing"] == [{"cell_id": "x", "title": "gone", "missing_in": "head"}]
    slow, dead, *_ = document["cells"]
    assert {name: slow[name] for name in IDENTITY} == IDENTITY
    assert set(IDENTITY) <= set(COLUMNS)
    assert (slow["ratio"], slow["ratio_low"], slow["base_latency_ms"], slow["flagged"]) == (1.05, 1.04, 10.0, True)
    assert dead["ratio"] is None
    assert dead["reasons"] == ["head: it crashed"]


def test_junit_says_of_each_cell_what_became_of_it() -> None:
    suite = ET.fromstring(junit.document(MIXED))[0]
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6",
        "failures": "2",
        "errors": "2",
        "skipped": "0",
    }
    kinds = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
    assert kinds["slow"] == ["failure"]
    assert kinds["dead"] == kinds["gone"] == ["error"]
    assert kinds["good"] == kinds["fast"] == ["system-out"]
    assert suite[0].get("classname") == "vgg11.torch"
    assert "REGRESSED: 1.050 (1.040 to 1.060)" in str(suite[0][0].get("message"))


def test_junit_skips_what_may_be_inconclusive() -> None:
    found = report(verdict("INCONCLUSIVE"), inconclusive_passes=True)
    suite = ET.fromstring(junit.document(found))[0]
    assert (suite.get("failures"), suite.get("skipped")) == ("0", "1")


def test_a_report_of_nothing_is_green_in_no_format() -> None:
    empty = report()
    suite = ET.fromstring(junit.document(empty))[0]
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
    assert github.workflow_commands(empty) == "::error title=vggbench::0 cells compared: none"
    assert json.loads(formats.to_json(empty))["exit_code"] == 4
    assert "0 cells compared: none" in markdown.page(empty)


@given(st.text(max_size=60) | st.just(HOSTILE))
def test_no_name_or_reason_breaks_a_format(text: str) -> None:
    found = report(verdict("REGRESSED", text, reasons=(text,)), notes=(text,), base=text)
    case = ET.fromstring(junit.document(found)).find(".//testcase")
    assert case is not None
    (cell,) = json.loads(formats.to_json(found))["cells"]
    assert cell["title"] == text
    (line,) = github.workflow_commands(found).splitlines() if text.isprintable() else [github.workflow_commands(found)]
    assert line.startswith("::error title=REGRESSED ")
    assert "\n" not in line
    assert "\r" not in line
    (row,) = [row for row in markdown.page(found).split("\n") if row.startswith("| REGRESSED")]
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == len(formats.HEADINGS) + 1


def test_workflow_commands_are_escaped_as_github_reads_them() -> None:
    line = github.workflow_commands(report(verdict("REGRESSED", "a: b, c", reasons=("50 %\nor: more, or less",))))
    title, _, message = line.removeprefix("::error title=").partition("::")
    assert title == "REGRESSED a%3A b%2C c"
    assert message.endswith("50 %25%0Aor: more, or less")


def test_workflow_commands_are_no_more_than_github_shows() -> None:
    many = report(*(verdict("REGRESSED", f"cell {number}") for number in range(12)), verdict("INCONCLUSIVE", "unsure"))
    lines = github.workflow_commands(many).splitlines()
    assert [line.startswith("::error") for line in lines] == [True] * 10 + [False]
    assert lines[9] == "::error title=vggbench::3 more; the summary has them"
    assert github.workflow_commands(report(verdict("PASS"))) == ""


@pytest.mark.parametrize("limit", [markdown.COMMENT_BYTES, 5000, github.SUMMARY_BYTES])
def test_a_page_of_5000_cells_fits_and_keeps_the_worst(limit: int) -> None:
    page = markdown.page(LARGE, limit)
    assert limit - 1500 < len(page.encode()) <= limit
    rows = [line for line in page.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert rows[0].startswith("| REGRESSED | the slow one ")
    left = re.search(r"^(\d+) of 5000 cells, the best, did not fit", page, re.MULTILINE)
    assert left is not None
    assert len(rows) + int(left[1]) == 5000
    assert "at most 0.77% of cases" in page


def test_a_summary_leaves_room_for_what_is_there() -> None:
    present = 2**20 - 6000
    assert len(github.summary(LARGE, present).encode()) + present < 2**20
    with pytest.raises(ValueError, match="no room"):
        github.summary(LARGE, 2**20 - 10)


def test_junit_and_json_hold_all_of_5000_cells() -> None:
    assert ET.fromstring(junit.document(LARGE))[0].get("tests") == "5000"
    assert len(json.loads(formats.to_json(LARGE))["cells"]) == 5000


def test_a_small_page_is_whole() -> None:
    page = markdown.page(MIXED)
    assert page.startswith("## vggbench gate: 5 cells compared")
    assert page.index("libraries.torch: 2.13") < page.index("| MISSING") < page.index("| REGRESSED")
    assert "did not fit" not in page
