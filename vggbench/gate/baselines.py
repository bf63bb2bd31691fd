"""Baselines: runs that later ones are compared with, kept a machine, with a trace of who put them there, when and why.

No torch, no pandas.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vggbench.artefacts.store import flush
from vggbench.errors import NothingToJudge, RequestError, RunFolderError
from vggbench.gate.comparing import LEAST_BASE_RUNS
from vggbench.measure.validity import is_of_what_was_asked
from vggbench.results.journal import JOURNAL_NAME, Journal, read_rounds
from vggbench.results.rows import derive_rows
from vggbench.results.run_folder import make_folder
from vggbench.results.run_info import FILE_NAME, RunInfo, held_runs, read_run_info

DEFAULT_BASELINES = Path("benchmarks") / "baselines"
HISTORY_NAME = "history.jsonl"
_KEPT_FILES = (FILE_NAME, JOURNAL_NAME, "results.csv", "summary.md")
_UNFINISHED = ".unfinished-"
_GIT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """One line of a machine's history.

    Attributes:
        at: when it was done, in UTC.
        by: who did it.
        why: in their words.
        added: the run's name among the machine's baselines.
        removed: names of those that had to make room.
    """

    at: str
    by: str
    why: str
    added: str
    removed: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the history."""
        return asdict(self)


def refresh(
    run: Path, baselines: Path, *, by: str, why: str, machine: str | None = None, keep: int | None = None
) -> tuple[Path, Refresh]:
    """Put a run among its machine's baselines; return the machine's folder and what was noted there.

    With `keep`, the oldest runs beyond so many are removed.

    Raises:
        RequestError: nobody, or no reason, is named; fewer are to be kept than a comparison needs; a strange name.
        RunFolderError: the run cannot be read or is there already, or the folder cannot be written.
        NothingToJudge: a row of the run has no figure of what was asked: every comparison with it would be invalid.
    """
    by, why = _said("--by", by), _said("--why", why)
    if keep is not None and keep < LEAST_BASE_RUNS:
        raise RequestError(f"--keep is {keep}; a comparison needs {LEAST_BASE_RUNS} base runs or more")
    info = read_run_info(run)
    _check_sound(run, info)
    folder = baselines / (machine_name(info) if machine is None else _plain_name(machine))
    name = re.sub(r"[^0-9A-Za-z]+", "-", info.started_at).strip("-")
    for made in (baselines, folder):
        make_folder(made)
    try:
        with FileLock(folder / ".lock", timeout=0):
            removed = _replace(run, folder, name, keep)
            noted = Refresh(at=_now(), by=by, why=why, added=name, removed=removed)
            Journal(folder / HISTORY_NAME).append(noted)
    except Timeout:
        raise RunFolderError(f"{folder} is in use by another vggbench; wait for it") from None
    except OSError as error:
        raise RunFolderError(
            f"{folder} cannot be written: {error.strerror}; make room or name another folder"
        ) from None
    return folder, noted


def machine_name(info: RunInfo) -> str:
    """Return a folder's name for the machine of a run: its device, and the threads that were measured."""
    threads = sorted({cell.threads for cell in info.plan.cells})
    device = info.device_name or info.plan.cells[0].device
    words = re.findall(r"[a-z0-9]+", re.sub(r"\((?:r|tm|c)\)", "", device.lower()))
    return "-".join([*words, *map(str, threads), "threads"])


def git_user() -> str:
    """Return who git says is working here; empty where it does not."""
    found = [_git_setting(name) for name in ("user.name", "user.email")]
    return " ".join(text for text in (found[0], f"<{found[1]}>" if found[1] else "") if text)


def _git_setting(name: str) -> str:
    command = ["git", "config", "--get", name]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip()


def _said(option: str, text: str) -> str:
    if not text.strip():
        what = "who refreshes the baseline" if option == "--by" else "why the baseline is refreshed"
        raise RequestError(f"nothing says {what}: give {option}")
    return " ".join(text.split())


def _plain_name(machine: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", machine):
        raise RequestError(f"--machine {machine!r} is no folder's name; use letters, digits, - and _")
    return machine


def _check_sound(run: Path, info: RunInfo) -> None:
    rows = [row for row in derive_rows(info, read_rounds(run, info.plan)) if row.status != "unsupported"]
    wrong = [row for row in rows if row.latency_ms is None or not is_of_what_was_asked(row.status)]
    if wrong or not rows:
        what = f"{len(wrong)} of {len(rows)} rows are {wrong[0].status}" if wrong else "no row was measured"
        raise NothingToJudge(f"{run} is no baseline: {what}; `vggbench report {run}` says why")


def _replace(run: Path, folder: Path, name: str, keep: int | None) -> tuple[str, ...]:
    """Copy the run, whole or not at all; return which older ones were removed."""
    if (folder / name).exists():
        raise RunFolderError(f"{folder / name} is there already: this run is a baseline of that machine")
    unfinished = folder / f"{_UNFINISHED}{name}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        for file in _KEPT_FILES:
            if (run / file).exists():
                shutil.copy2(run / file, unfinished / file)
                flush(unfinished / file)
        unfinished.rename(folder / name)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    flush(folder)
    there = kept_runs(folder)
    old = [] if keep is None else there[: max(0, len(there) - keep)]
    for each in old:
        shutil.rmtree(folder / each)
    return tuple(old)


def kept_runs(folder: Path) -> list[str]:
    """Return the names of a machine's baselines, oldest first."""
    return [path.name for path in held_runs(folder)]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_history(folder: Path) -> list[Refresh]:
    """Return who refreshed a machine's baselines, when and why; empty where nobody did."""
    path = folder / HISTORY_NAME
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Refresh(**{**line, "removed": tuple(line["removed"])}) for line in lines]
