"""An artefact as plain data: what a backend opens, and the hashes that say it is what it was.

The standard library only: workers check an artefact's files with this before they open them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vggbench.errors import ArtefactError


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A set of files with one hash.

    Attributes:
        kind: `weights` (safetensors) or `onnx`.
        folder: absolute path of the folder that holds the files and their manifest.
        main: name of the file a backend opens.
        files: SHA-256 (hex) by file name, without the manifest.
        sha256: `combined_hash(files)`.
        spec: the model spec as JSON data (`ModelSpec.to_json`).
        precision: the files' element type.
        seconds: how long it took to make.
    """

    kind: str
    folder: str
    main: str
    files: Mapping[str, str]
    sha256: str
    spec: Mapping[str, Any]
    precision: str
    seconds: float

    @property
    def path(self) -> Path:
        """The file a backend opens."""
        return Path(self.folder) / self.main

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum((Path(self.folder) / name).stat().st_size for name in self.files)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Artefact:
        """Rebuild an artefact from `to_json`."""
        return cls(**data)


def file_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def combined_hash(files: Mapping[str, str]) -> str:
    """Return one SHA-256 over names and hashes, in the order of the names."""
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def check_files(artefact: Artefact, hash_file: Callable[[Path], str] = file_sha256) -> None:
    """Hash every file and compare; raise `ArtefactError` at the first that differs."""
    listed = combined_hash(artefact.files)
    if not artefact.files or listed != artefact.sha256:
        raise ArtefactError(
            f"{artefact.folder}: the list of files has the hash {listed[:12]}..., not {artefact.sha256[:12]}..."
        )
    if artefact.main not in artefact.files:
        raise ArtefactError(f"{artefact.folder}: {artefact.main} is opened but not among the files that have a hash")
    for name, expected in artefact.files.items():
        path = Path(artefact.folder) / name
        if not path.is_file():
            raise ArtefactError(f"{path}: the file is missing; remove the folder and export again")
        check_hash(path, hash_file(path), expected)


def check_hash(path: Path, found: str, expected: str) -> None:
    """Raise `ArtefactError` where the SHA-256 of a file is not the one of its manifest."""
    if found != expected:
        raise ArtefactError(
            f"{path}: SHA-256 is {found[:12]}..., the manifest says {expected[:12]}...; "
            "remove the folder and export again"
        )
