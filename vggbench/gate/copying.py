"""Builds the head environment of `--head-with`: a copy of the base's, in which pip then makes the change.

Copied file by file rather than installed again: what is in the base need not be in any index. Files are hard links
where the disk allows it, which pip never writes through: it removes a file before it writes another. The copy is kept
in a cache folder named after all that it is made of. Standard library and filelock.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from vggbench.errors import RequestError
from vggbench.gate.environments import PythonEnvironment, look

_KEY_CHARACTERS = 12
_MADE = "vggbench-copy.json"  # written last: a folder without it is half made
_COPY_TIMEOUT_S = 300.0  # venv and its interpreter, on a slow disk
_PIP_TIMEOUT_S = 3600.0  # gigabytes over a slow line
_LONGEST_QUOTE = 300  # characters of pip's complaint that say enough of it


def default_cache() -> Path:
    """Return the folder that copies are kept in."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "vggbench" / "environments"


def copy_with(base: PythonEnvironment, changes: Sequence[str], cache: Path) -> PythonEnvironment:
    """Return a copy of the base environment with pip's requirements installed over it, made once.

    Raises:
        RequestError: a change that is no requirement, a base that cannot be copied, or what pip could not do.
    """
    for change in changes:
        if not change.strip() or change.strip().startswith("-"):
            raise RequestError(f"--head-with {change!r} is no requirement; write it as 'openvino==2026.3.*'")
    folder = cache / _key(base, changes)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock", timeout=_PIP_TIMEOUT_S):
            if not (folder / _MADE).exists():
                _make(folder, base, changes)
    except Timeout:
        raise RequestError(f"{folder} is still being built by another vggbench; wait for it") from None
    except (OSError, shutil.Error) as error:
        shutil.rmtree(folder, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)[:_LONGEST_QUOTE]
        raise RequestError(f"the head environment {folder} cannot be written: {reason}") from None
    return look("head", str(folder))


def _key(base: PythonEnvironment, changes: Sequence[str]) -> str:
    """Hash all that decides what the copy is; installing anything in the base changes the time of its folder."""
    times = {folder: Path(folder).stat().st_mtime_ns for folder in base.folders if Path(folder).is_dir()}
    parts = {"python": base.python, "version": base.version, "has": dict(base.distributions), "times": times}
    text = json.dumps({**parts, "changes": list(changes)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_CHARACTERS]


def _make(folder: Path, base: PythonEnvironment, changes: Sequence[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # left by one that was killed
    try:
        _call([base.python, "-m", "venv", "--without-pip", str(folder)], "venv", _COPY_TIMEOUT_S)
        copy = look("head", str(folder), needed=())
        for source in _folders(base):
            shutil.copytree(source, copy.folders[0], symlinks=True, copy_function=_link, dirs_exist_ok=True)
        _call([copy.python, "-m", "pip", "install", "--no-input", "--quiet", *changes], "pip", _PIP_TIMEOUT_S)
        (folder / _MADE).write_text(json.dumps({"base": base.text, "changes": list(changes)}) + "\n")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _folders(base: PythonEnvironment) -> list[Path]:
    """Return the folders to copy, each once: the first comes last, since it is the one that is imported from."""
    found = [Path(folder).resolve() for folder in base.folders if Path(folder).is_dir()]
    return list(reversed(dict.fromkeys(found)))


def _link(source: str, target: str) -> None:
    """Link a file; copy it where the disk is another one, or knows no links."""
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _call(command: Sequence[str], what: str, timeout_s: float) -> None:
    """Run a step; `RequestError` with the last thing that it said if it failed."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        answer = subprocess.run(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RequestError(f"the head environment was not built: {what} took more than {timeout_s:.0f} s") from None
    if answer.returncode:
        said = [line.strip() for line in (answer.stdout + answer.stderr).splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR:")] or said[-1:] or [f"code {answer.returncode}"]
        raise RequestError(f"the head environment was not built: {what}: {errors[-1][:_LONGEST_QUOTE]}")
