"""The full examination on small networks: what it says of misses and false alarms, and that it goes on after a stop."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.artefacts.networks import FIVE_POOLS, narrow
from tests.parity.findings import Head, Journal, Verification, summary
from tests.parity.mutations import EQUIVALENT, MUTATIONS
from tests.parity.score import Engine, Score
from tests.parity.scoring import engines
from tests.parity.verify_all import SCORED_IN, VERIFIED_IN, Work, verify_all
from vggbench.models.configs import VARIANTS

HEAD = Head("make verify-all", "2026-01-01 00:00 UTC", "0123456789abcdef", "a machine, 2 cores", {"torch": "2.11"})
FP32, BF16 = Engine("torch", "fp32"), Engine("openvino", "bf16")
CAUGHT = Score("bias dropped", FP32, 0.5, False, False, 0.5, 1e-4, 1e-7, 1e-6)
HIDDEN = dataclasses.replace(CAUGHT, engine=BF16, change=0.1, passed=True, error=0.12, tolerance=0.3)
MISSED = dataclasses.replace(CAUGHT, passed=True)
SAME = Score("renamed", FP32, 1e-16, True, True, 1e-6, 1e-4, 1e-7, 1e-6)


def row(**facts: Any) -> dict[str, Any]:
    measured = {"parity_error": 1e-5, "parity_tolerance": 1e-4, "status": "ok", "reasons": ""}
    return {"backend": "torch", "precision": "fp32", **measured, **facts}


GOOD = Verification("vgg11", (row(),))


def journal(folder: Path, *findings: Score | Verification, resume: bool = False, head: Head = HEAD) -> Journal:
    kept = Journal(folder / "journal.jsonl", head, resume=resume)
    for finding in findings:
        kept.add(finding)
    return kept


def test_page_counts_and_lists(tmp_path: Path) -> None:
    page, complaints = summary(journal(tmp_path, CAUGHT, HIDDEN, SAME, GOOD))
    assert complaints == []
    assert "Nothing was missed, and there was no false alarm." in page
    assert "`make verify-all`, begun 2026-01-01 00:00 UTC at commit 0123456789ab on a machine, 2 cores." in page
    assert "| torch fp32 | 1 | 1 | 0 | 0 | 1 |" in page
    assert "| openvino bf16 | 1 | 0 | 1 | 0 | 0 |" in page
    assert "| mutation | change | fp32 | bf16 | |" in page
    assert "| bias dropped | 5.0e-01 | 1/1 | 0/1 | hidden in bf16 |" in page
    assert "| renamed | 1.0e-16 |  |  | equivalent |" in page
    assert "Equivalent, as float64 tells: renamed." in page
    assert "| vgg11 | 1.0e-05 / 1.0e-04 |" in page


@pytest.mark.parametrize(
    ("findings", "words"),
    [
        ([CAUGHT, MISSED, GOOD], "MISSED"),
        ([CAUGHT, dataclasses.replace(SAME, passed=False), GOOD], "FALSE ALARM"),
        ([CAUGHT, dataclasses.replace(CAUGHT, departure=1.0), GOOD], "STRANGE"),
        ([CAUGHT, Verification("vgg11", (row(), row(status="parity_failed", reasons="too far")))], "too far"),
        ([CAUGHT, Verification("vgg11", (row(status="failed", parity_error=None, reasons="died"),))], "died"),
        ([CAUGHT, Verification("vgg11", ())], "NOT EXAMINED"),
        ([CAUGHT, dataclasses.replace(HIDDEN, mutation="other"), GOOD], "caught in no precision: other"),
        ([CAUGHT], "no variant was examined"),
        ([SAME, GOOD], "no mutant was caught"),
        ([GOOD], "no mutant was caught"),
    ],
)
def test_what_is_wrong_is_said_on_the_page(tmp_path: Path, findings: list[Any], words: str) -> None:
    page, complaints = summary(journal(tmp_path, *findings))
    assert len(complaints) == 1
    assert words in complaints[0]
    assert f"- **{complaints[0]}**" in page
    assert "Nothing was missed" not in page


def test_journal_goes_on_after_its_last_whole_line(tmp_path: Path) -> None:
    journal(tmp_path, CAUGHT, GOOD)
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes() + b'{"score": {"muta')
    later = dataclasses.replace(HEAD, started_at="later", commit=HEAD.commit + "-dirty")
    resumed = journal(tmp_path, HIDDEN, resume=True, head=later)
    assert resumed.head == HEAD
    assert resumed.scores == [CAUGHT, HIDDEN]
    assert resumed.verifications == [GOOD]
    assert [next(iter(json.loads(line))) for line in path.read_text().splitlines()] == [
        *("head", "score", "variant", "score")
    ]


def test_journal_begins_anew_unless_asked_to_go_on(tmp_path: Path) -> None:
    journal(tmp_path, CAUGHT)
    assert journal(tmp_path).scores == []
    assert journal(tmp_path, resume=True).scores == []


@pytest.mark.parametrize("other", [{"commit": "other"}, {"machine": "other"}, {"versions": {"torch": "2.12"}}])
def test_journal_of_other_code_is_not_gone_on_with(tmp_path: Path, other: dict[str, Any]) -> None:
    journal(tmp_path, CAUGHT)
    with pytest.raises(SystemExit, match="begin anew, without --resume"):
        journal(tmp_path, resume=True, head=dataclasses.replace(HEAD, **other))


def test_by_default_it_is_everything() -> None:
    work = Work()
    assert work.mutations == {**MUTATIONS, **EQUIVALENT}
    assert list(work.variants) == list(VARIANTS)
    assert (work.mutated.variant, work.mutated.input_size) == ("vgg16_bn", 224)


SHAPE = {"config": FIVE_POOLS, "input_size": 32, "num_classes": 10, "classifier_width": 64}
FEW = {name: MUTATIONS[name] for name in ("bias dropped, logits", "images in another order")}


@pytest.mark.slow
def test_small_examination_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real backends, real processes; the second call finds nothing left to do and says the same."""
    work = Work(narrow(), {**FEW, "ReLU applied twice": EQUIVALENT["ReLU applied twice"]}, {"small": SHAPE})
    assert verify_all(work, tmp_path / "log", tmp_path, resume=False) == 0
    page = (tmp_path / "log" / "summary.md").read_text()
    lines = (tmp_path / "log" / "journal.jsonl").read_text()
    native = len(engines(VERIFIED_IN))
    assert native >= 3
    assert len(lines.splitlines()) == 1 + 3 * len(engines(SCORED_IN)) + 1
    assert len(json.loads(lines.splitlines()[-1])["variant"]["rows"]) == native
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    capsys.readouterr()
    assert verify_all(work, tmp_path / "log", tmp_path, resume=True) == 0
    assert (tmp_path / "log" / "summary.md").read_text() == page
    assert (tmp_path / "log" / "journal.jsonl").read_text() == lines
    assert capsys.readouterr().out.strip() == "nothing was missed, and there was no false alarm"


@pytest.mark.slow
def test_damage_that_passes_ends_with_1(tmp_path: Path) -> None:
    """A check that sees nothing: every mutant is missed in fp32."""
    work = Work(narrow(), FEW, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.parity.scoring.tolerance", lambda *_arguments: 1e3)
        patch.setattr("vggbench.parity.check.LARGEST", 1e3)
        assert verify_all(work, tmp_path, tmp_path, resume=False) == 1
    assert "MISSED" in (tmp_path / "summary.md").read_text()
