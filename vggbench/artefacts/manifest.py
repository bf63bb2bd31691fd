"""The manifest beside an artefact's files: what it says, and how it is read and written.

Imports pydantic and nothing heavier: an artefact that exists is found again without torch or onnx.

Schema history: 1, the first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from vggbench.artefacts.artefact import combined_hash
from vggbench.errors import ArtefactError

MANIFEST_NAME = "manifest.json"
SCHEMA = 1
REMEDY = "remove the folder and export again"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# A plain name: a manifest cannot point outside its own folder.
FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
FileName = Annotated[str, Field(pattern=FILE_NAME)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorEntry(_Strict):
    """An input or output; a dimension is a number or the name of a free one."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class FileEntry(_Strict):
    """What a file has to be."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]


class Manifest(_Strict):
    """All that is known about an artefact; it holds no absolute path.

    Attributes:
        version: of this schema.
        kind: what the files are: `weights`, `onnx`, `reference`.
        main: the file that is opened; the others belong to it.
        spec: `ModelSpec.to_json`, a weights file by its name alone, a published one with its origin.
        options: what else the exporter was told.
        tools: versions of what made it.
        sha256: `combined_hash` of the files.
        key: hash of all that decides the content; the folder's name ends in its first 8 characters.
        parent: hash of the artefact that this one was made from.
        classes: names of the classes by label, where the weights say them.
        preprocessing: how images are prepared for the weights, where they say it.
        facts: what was found out while it was made, as how many weights a type was too small for.
        seal: hash of all other entries, which tells an edited manifest.
    """

    version: Literal[1] = Field(alias="schema")
    kind: str
    main: FileName
    spec: dict[str, str | int | bool | dict[str, Any]]
    precision: str
    opset: int | None
    options: dict[str, str]
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    tools: dict[str, str]
    files: Annotated[dict[FileName, FileEntry], Field(min_length=1)]
    sha256: Sha256
    key: Sha256
    parent: Sha256 | None
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    created_at: datetime
    classes: tuple[str, ...] = ()
    preprocessing: dict[str, Any] | None = None
    facts: dict[str, JsonValue] = Field(default_factory=dict)
    seal: Sha256

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 by file name."""
        return {name: entry.sha256 for name, entry in self.files.items()}

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.main not in self.files:
            raise ValueError(f"main file {self.main!r} is not among the files")
        if combined_hash(self.hashes) != self.sha256:
            raise ValueError("the files' hashes do not have the combined hash")
        return self


def canonical_json(data: Mapping[str, Any]) -> str:
    """Return one text for one content: sorted, without spaces."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical_sha256(data: Mapping[str, Any]) -> str:
    """Return the hex SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


def write_manifest(folder: Path, entries: Mapping[str, Any]) -> None:
    """Write `manifest.json`: the entries, which are JSON data, and the seal over them."""
    sealed = {**entries, "seal": canonical_sha256(entries)}
    Manifest.model_validate(sealed)
    (folder / MANIFEST_NAME).write_bytes(_written(sealed))


def _written(sealed: Mapping[str, Any]) -> bytes:
    """Return the file's content: one for one manifest, so that no byte of it can change unnoticed."""
    return f"{json.dumps(sealed, indent=2)}\n".encode()


def read_manifest(folder: Path) -> Manifest:
    """Return a folder's manifest; `ArtefactError` names what is wrong with it."""
    path = folder / MANIFEST_NAME
    content, data = _read_json(path)
    try:
        manifest = Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        raise ArtefactError(f"{path}: {where}: {first['msg']}; {REMEDY}") from error
    written = _written(data)
    seal = data.pop("seal")
    found = canonical_sha256(data)
    if found != seal:
        raise ArtefactError(
            f"{path}: the content was changed after it was written: its seal is {found[:12]}..., "
            f"the manifest says {seal[:12]}...; {REMEDY}"
        )
    if content != written:
        raise ArtefactError(f"{path}: the text was changed after it was written, though it says the same; {REMEDY}")
    return manifest


def _read_json(path: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        content = path.read_bytes()
        data = json.loads(content)
    except FileNotFoundError as error:
        raise ArtefactError(f"{path}: the file is missing; {REMEDY}") from error
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be read: {error.strerror}; {REMEDY}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested too deep to be a manifest
        raise ArtefactError(f"{path}: not JSON: {error}; {REMEDY}") from error
    if not isinstance(data, dict):
        raise ArtefactError(f"{path}: a JSON object was expected, found {type(data).__name__}; {REMEDY}")
    return content, data
