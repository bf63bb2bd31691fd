"""The column dictionary is the code's; `VGGBENCH_WRITE_GOLDENS=1` in the environment writes it again."""

from __future__ import annotations

import os
import re
from dataclasses import fields

import pytest

from tests.meta.repository import ROOT
from vggbench.results.columns import COLUMNS, Row, column_dictionary

README = ROOT / "reports" / "README.md"
BEGIN, END = "<!-- columns: begin -->\n", "<!-- columns: end -->\n"

# Names that other tools may rely on, in this order.
PROMISED = (
    *("variant", "backend", "options", "precision", "device", "batch_size", "input_size", "status", "reasons"),
    *("latency_ms", "latency_low_ms", "latency_high_ms", "latency_p90_ms", "latency_p99_ms", "end_to_end_ms"),
    *("throughput_img_s", "throughput_low_img_s", "throughput_high_img_s", "rounds", "samples", "stop_reason"),
    *("precision_ran", "placement", "threads", "parity_error", "parity_tolerance", "parity_cosine", "top1_agreement"),
    *("artefact_sha256", "verified_sha256", "artefact_mib", "export_s", "load_s", "first_inference_ms"),
    *("peak_memory_mib", "speedup", "device_name", "driver", "backend_version", "vggbench_version", "commit"),
    *("started_at", "spec_hash"),
)


def test_reports_readme_has_the_dictionary():
    text = README.read_text()
    before, found, after = re.split(f"{re.escape(BEGIN)}|{re.escape(END)}", text)
    if os.environ.get("VGGBENCH_WRITE_GOLDENS"):
        README.write_text(f"{before}{BEGIN}{column_dictionary()}{END}{after}")
    else:
        assert found == column_dictionary()


def test_the_promised_names_are_there_in_their_order():
    assert [name for name in COLUMNS if name in PROMISED] == list(PROMISED)


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_has_a_type_and_a_meaning_in_one_line(name: str):
    meaning = COLUMNS[name]
    assert meaning[0].isupper() or meaning[0] in "`0123456789"
    assert meaning.endswith(".")
    assert "|" not in meaning
    assert "\n" not in meaning


@pytest.mark.parametrize(("ending", "kind"), [("_ms", "float"), ("_s", "float"), ("_mib", "float"), ("_sha256", "str")])
def test_units_are_in_the_names(ending: str, kind: str):
    found = [str(column.type) for column in fields(Row) if column.name.endswith(ending)]
    assert found
    assert set(found) == {f"{kind} | None"}


def test_missing_is_none():
    assert {getattr(Row(), name) for name in COLUMNS} == {None}
