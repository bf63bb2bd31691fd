"""The report as JUnit XML, which every CI system shows. Standard library only."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from vggbench.gate.formats import MISSING, head_lines, headline, rule_lines, verdict_texts, worst_first
from vggbench.gate.records import CellVerdict, GateReport

# What XML 1.0 has no way to write (section 2.2): a reason may quote a library's coloured output.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(report: GateReport) -> str:
    """Return one test case a cell: slower is a failure, what could not be judged an error, as `exit_code` has it.

    A report without cells has one case, which is an error: no file of no tests is taken for success.
    """
    suite = ET.Element("testsuite", name=f"vggbench {report.kind}")
    for found in worst_first(report):
        _add_verdict(suite, found, skipped=report.inconclusive_passes and found.verdict == "INCONCLUSIVE")
    for cell in report.missing:
        _add(_case(suite, cell.title, "cells"), "error", MISSING, f"{cell.missing_in} does not have it")
    if not report.verdicts:
        _add(_case(suite, "any cell at all", "cells"), "error", MISSING, headline(report))
    output = ET.SubElement(suite, "system-out")
    output.text = _clean("\n".join([headline(report), *head_lines(report), *rule_lines(report)]))
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(sum(1 for _ in suite.iter(tag))))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False)


def _add_verdict(suite: ET.Element, found: CellVerdict, *, skipped: bool) -> None:
    names = [str(found.identity.get(name)) for name in ("variant", "backend") if found.identity.get(name)]
    case = _case(suite, found.title, ".".join(names) or "cells")
    if found.exit_code:
        kinds = {"REGRESSED": "failure", "INCONCLUSIVE": "skipped" if skipped else "failure"}
        _add(case, kinds.get(found.verdict, "error"), found.verdict, _text(found))
    else:
        ET.SubElement(case, "system-out").text = _clean(_text(found))


def _text(found: CellVerdict) -> str:
    verdict, _, base_ms, head_ms, ratio, interval, *_ = verdict_texts(found)
    figures = f"{ratio} ({interval})" if interval else ratio
    latencies = f"{base_ms} to {head_ms} ms" if base_ms and head_ms else ""
    return ": ".join(text for text in (verdict, figures, latencies, "; ".join(found.reasons)) if text)


def _case(suite: ET.Element, name: str, group: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", name=_clean(name), classname=_clean(group))


def _add(case: ET.Element, tag: str, kind: str, message: str) -> None:
    element = ET.SubElement(case, tag, message=_clean(message))
    if tag != "skipped":  # which has no type in JUnit's schema
        element.set("type", kind)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
