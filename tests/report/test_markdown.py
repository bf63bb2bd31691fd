from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import fake_cell
from tests.results.made import CELL, failed_parity, info, record, rounds, session
from vggbench.measure.records import Failure
from vggbench.report.markdown import escaped, summary
from vggbench.report.table import HEADINGS
from vggbench.results.rows import derive_rows

SIX = [1.05, 1.0, 1.08, 1.02, 1.06, 1.03]  # neither in order nor in groups


def page(*records, cells=(CELL,)) -> str:
    head = info(*cells)
    return summary(head, derive_rows(head, list(records)))


def test_a_good_run_is_a_head_and_a_table():
    lines = page(*rounds(CELL, SIX)).splitlines()
    assert lines[0] == "# vggbench run"
    assert lines[2] == (
        "1 of 1 rows are ok. Started 2026-01-02T03:04:05+00:00 on A processor, 2 threads, 6 rounds, vggbench 0.1.0."
    )
    assert lines[4] == "Versions: numpy 2.0."
    assert lines[6] == "| " + " | ".join(HEADINGS) + " |"
    assert lines[7].count("---") == len(HEADINGS)
    assert lines[8].endswith("| ok |")
    assert len(lines) == 9


def test_variables_that_libraries_read_are_in_the_head():
    head = info(CELL)
    head = replace(head, environment={**head.environment, "variables": {"ONEDNN_MAX_CPU_ISA": "AVX2", "OV_X": "<b>"}})
    lines = summary(head, derive_rows(head, [])).splitlines()
    assert lines[6] == "Environment variables: ONEDNN_MAX_CPU_ISA=AVX2, OV_X=&lt;b>."


def test_what_is_wrong_is_listed_under_the_table():
    bad = fake_cell(batch_size=4)
    failure = Failure(stage="open", status="timeout", reason="no answer within 600 s")
    text = page(*rounds(CELL, SIX), record(bad, 0, failure=failure), cells=(CELL, bad))
    assert "1 of 2 rows are ok." in text
    assert text.endswith(
        "## Findings\n\n- custom fake fault=none fp32 batch 4: timeout: round 1 at open: no answer within 600 s\n"
    )


HOSTILE = (
    "a | b <script>x</script> &amp; [link](http://x) ![i](y) *bold* _it_ `code` ~~no~~ $x$ \\ two\n# lines\r\n- three"
)


def test_nothing_that_a_library_says_is_markup():
    text = page(record(CELL, 0, session(CELL, parity=failed_parity(HOSTILE))))
    (line,) = [line for line in text.splitlines() if line.startswith("- ")]
    assert "# lines - three" in line
    assert "<script" not in text
    for mark in ("[link]", "*bold*", "`code`", "~~no~~", "$x$", "a | b", " _it_ "):
        assert mark not in text
    assert r"a \| b &lt;script>x&lt;/script> &amp;amp; \[link\](http://x)" in line


def test_a_hostile_option_breaks_no_table():
    cell = fake_cell(latency_ms="1|2 <b>\n|")
    text = page(cells=(cell,))
    (row,) = [line for line in text.splitlines() if line.startswith("| custom")]
    assert len(re.findall(r"(?<!\\)\|", row)) == len(HEADINGS) + 1


@given(st.text())
def test_escaped_text_is_one_line_that_reads_as_it_was(text: str):
    shown = escaped(text)
    assert len(shown.splitlines()) <= 1
    unescaped = re.sub(r"\\([\\`*\[\]|~$_])", r"\1", shown).replace("&lt;", "<").replace("&amp;", "&")
    assert unescaped == " ".join(text.split())
    assert re.search(r"(?<!\\)(?:\\\\)*[`*|\[]", shown) is None


@pytest.mark.parametrize("word", ["precision_mismatch", "--time-budget-s", "x86_64", "(a, b)"])
def test_ordinary_words_stay_readable(word: str):
    assert escaped(word) == word
