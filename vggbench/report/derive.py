"""Everything in a run folder that is derived from its head and journal, written again."""

from __future__ import annotations

from pathlib import Path

from vggbench.report.frame import frame, sample_frame, write_csv, write_parquet
from vggbench.report.markdown import summary
from vggbench.results.columns import Row
from vggbench.results.journal import read_rounds
from vggbench.results.rows import derive_rows
from vggbench.results.run_folder import held, write_whole
from vggbench.results.run_info import read_run_info

DERIVED_NAMES = (RESULTS, SUMMARY, SAMPLES) = ("results.csv", "summary.md", "samples.parquet")


def derive_again(folder: Path) -> list[Row]:
    """Do as `derive` in a folder that nobody else writes to; `RunFolderError` if somebody does."""
    read_run_info(folder)  # says that there is no run before a lock is made there
    with held(folder):
        return derive(folder)


def derive(folder: Path) -> list[Row]:
    """Write `results.csv`, `samples.parquet` and `summary.md` from `run.json` and `rounds.jsonl`; return the rows."""
    info = read_run_info(folder)
    records = read_rounds(folder, info.plan)
    rows = derive_rows(info, records)
    write_whole(folder / RESULTS, lambda file: write_csv(frame(rows), file))
    write_whole(folder / SAMPLES, lambda file: write_parquet(sample_frame(records), file))
    write_whole(folder / SUMMARY, lambda file: file.write(summary(info, rows).encode()))
    return rows
