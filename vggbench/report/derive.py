"""Everything in a run folder that is derived from its head and journal, written again."""

from __future__ import annotations

from pathlib import Path

from vggbench.report.frame import frame, sample_frame, write_csv, write_parquet
from vggbench.report.markdown import summary
from vggbench.results.columns import Row
from vggbench.results.journal import JOURNAL_NAME, read_journal
from vggbench.results.rows import derive_rows
from vggbench.results.run_info import read_run_info, write_whole

DERIVED_NAMES = (RESULTS, SUMMARY, SAMPLES) = ("results.csv", "summary.md", "samples.parquet")


def derive(folder: Path) -> list[Row]:
    """Write `results.csv`, `samples.parquet` and `summary.md` from `run.json` and `rounds.jsonl`; return the rows."""
    info = read_run_info(folder)
    records = read_journal(folder / JOURNAL_NAME)
    rows = derive_rows(info, records)
    write_whole(folder / RESULTS, lambda file: write_csv(frame(rows), file))
    write_whole(folder / SAMPLES, lambda file: write_parquet(sample_frame(records), file))
    write_whole(folder / SUMMARY, lambda file: file.write(summary(info, rows).encode()))
    return rows
