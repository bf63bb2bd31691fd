"""What lies below an exports folder, and how it is thrown away.

Only what is known to be ours is ever removed: a folder with a manifest of ours, or the hidden folder of an export that
was killed. Imports neither torch nor onnx.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from vggbench.artefacts.artefact import check_files
from vggbench.artefacts.manifest import MANIFEST_NAME, Manifest, read_manifest
from vggbench.artefacts.store import KEY_CHARACTERS, UNFINISHED, locked, read_artefact
from vggbench.errors import ArtefactError

State = Literal["whole", "broken", "unfinished", "foreign"]

# As `store.Request.folder` names it.
_NAME = re.compile(rf"(?P<precision>[^-]+)-(?P<size>[0-9]+)-(?P<format>.+)-(?P<key>[0-9a-f]{{{KEY_CHARACTERS}}})")
OUR_ENTRIES = {"key", "seal"}  # in a manifest that is ours, whatever became of the rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A folder that is named as an artefact's.

    Attributes:
        state: `whole` (all files there, of the right size), `broken`, `unfinished` (its export was killed, or is
            running), or `foreign` (no manifest of ours in it: never removed).
        format: as the folder's name has it.
        bytes: of all files in it, the manifest included.
        made_at: when the artefact was made; for one that is not whole, when its folder was last changed.
        sha256: the artefact's; empty for one that is not whole.
        reason: why it is broken.
    """

    folder: Path
    state: State
    variant: str
    precision: str
    input_size: int
    format: str
    bytes: int
    made_at: datetime
    sha256: str = ""
    reason: str = ""

    def age_days(self, now: datetime) -> float:
        """Return days since it was made."""
        return max(0.0, (now - self.made_at).total_seconds() / 86_400)


def survey(exports: Path, *, hashes: bool = False) -> list[Entry]:
    """Return what lies there, by variant and name; with `hashes` every file is read and compared.

    Raises:
        ArtefactError: the folder is not there or cannot be read.
    """
    return [entry for parent in _variants(exports) for entry in _survey_variant(parent, hashes=hashes)]


def prune(exports: Path, chosen: Callable[[Entry], bool], removed: Callable[[Entry], None]) -> None:
    """Remove what is chosen and ours, and tell each when it is gone.

    Each variant is looked through again under its lock: what an export has just finished is not mistaken for a
    leftover. A variant that is being exported is left alone.

    Raises:
        ArtefactError: a variant is being exported, or something cannot be removed; the rest was done before.
    """
    complaints: list[str] = []
    for parent in _variants(exports):
        if not any(_removable(entry) and chosen(entry) for entry in _survey_variant(parent)):
            continue  # and has no lock made in it: it may be a folder of the user's own
        try:
            with locked(parent, timeout_s=0):
                _prune_variant(parent, chosen, removed)
        except ArtefactError as error:
            complaints.append(str(error))
        except OSError as error:
            complaints.append(f"{parent}: cannot be removed: {error.strerror or error}")
    if complaints:
        raise ArtefactError("; ".join(complaints))


def _prune_variant(parent: Path, chosen: Callable[[Entry], bool], removed: Callable[[Entry], None]) -> None:
    for entry in _survey_variant(parent):
        if _removable(entry) and chosen(entry):
            _remove(entry)
            removed(entry)


def _removable(entry: Entry) -> bool:
    return entry.state != "foreign"


def _remove(entry: Entry) -> None:
    """Remove a folder; killed in between, it is an unfinished one and no artefact."""
    folder = entry.folder
    if entry.state != "unfinished":
        hidden = folder.with_name(UNFINISHED + folder.name)
        if hidden.exists():
            shutil.rmtree(hidden)
        folder = folder.rename(hidden)
    shutil.rmtree(folder)


def _variants(exports: Path) -> list[Path]:
    try:
        return [path for path in sorted(exports.iterdir()) if path.is_dir() and not path.is_symlink()]
    except OSError as error:
        raise ArtefactError(f"exports folder {str(exports)!r} cannot be read: {error.strerror}") from error


def _survey_variant(parent: Path, *, hashes: bool = False) -> Iterator[Entry]:
    try:
        folders = sorted(path for path in parent.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError as error:
        raise ArtefactError(f"{parent} cannot be read: {error.strerror}") from error
    for folder in folders:
        name = _NAME.fullmatch(folder.name.removeprefix(UNFINISHED))
        with suppress(FileNotFoundError):  # finished or removed by another process since the folder was listed
            if name is not None:
                yield _entry(folder, name, hashes=hashes)


def _entry(folder: Path, name: re.Match[str], *, hashes: bool) -> Entry:
    state, manifest, reason = _state(folder, hashes=hashes)
    return Entry(
        folder=folder,
        state=state,
        variant=folder.parent.name,
        precision=name["precision"],
        input_size=int(name["size"]),
        format=name["format"],
        bytes=_bytes(folder.rglob("*")),
        made_at=manifest.created_at if manifest else datetime.fromtimestamp(folder.stat().st_mtime, UTC),
        sha256=manifest.sha256 if manifest else "",
        reason=reason,
    )


def _state(folder: Path, *, hashes: bool) -> tuple[State, Manifest | None, str]:
    """Return the state, the manifest of an artefact that is whole, and the reason of one that is broken."""
    if folder.name.startswith(UNFINISHED):
        return "unfinished", None, ""
    if not _has_our_manifest(folder):
        return "foreign", None, ""
    try:
        artefact, manifest = read_artefact(folder), read_manifest(folder)
        if hashes:
            check_files(artefact)
    except ArtefactError as error:
        return "broken", None, str(error)
    return "whole", manifest, ""


def _has_our_manifest(folder: Path) -> bool:
    """Say whether there is a manifest that this package wrote, for this folder, whatever became of it since."""
    try:
        data = json.loads((folder / MANIFEST_NAME).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(data, dict) or not data.keys() >= OUR_ENTRIES:
        return False
    return folder.name.endswith("-" + str(data["key"])[:KEY_CHARACTERS])


def _bytes(paths: Iterable[Path]) -> int:
    total = 0
    for path in paths:
        with suppress(FileNotFoundError):  # a running export moves its files
            total += path.lstat().st_size if path.is_file() else 0
    return total
