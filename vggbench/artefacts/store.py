"""Where artefacts are kept: keys, folders, locks, and the one way into a folder.

A folder appears whole or not at all: its files are written into a hidden folder beside it, hashed, flushed, and the
folder is renamed. One lock a variant keeps exporters apart, so whatever hidden folder is found under it was left by
one that was killed. Imports neither torch nor onnx: what exists is found again at once.
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vggbench.artefacts.artefact import Artefact, check_files, combined_hash, file_sha256
from vggbench.artefacts.manifest import (
    MANIFEST_NAME,
    REMEDY,
    SCHEMA,
    FileEntry,
    Manifest,
    canonical_sha256,
    read_manifest,
    write_manifest,
)
from vggbench.artefacts.streams import stream_sha256
from vggbench.errors import ArtefactError, ExportError, RequestError
from vggbench.models.description import describe
from vggbench.models.network_file import Network, NetworkFile, network_from_json
from vggbench.version import VERSION

DEFAULT_EXPORTS = Path("exports")
KEY_CHARACTERS = 8  # of the key in a folder's name: 32 bits, and the manifest holds the whole
LOCK_NAME = ".lock"
UNFINISHED = ".unfinished-"
LOCK_TIMEOUT_S = 1800.0  # longer than the slowest export; a lock held longer belongs to a process that hangs

TensorShape = tuple[str, str, tuple[int | str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is wanted from the store.

    Attributes:
        kind: what the files are: `weights`, `onnx`, `reference`.
        format: the files' format as the folder's name has it.
        main: name of the file that is opened.
        precision: the files' element type.
        material: what decides the content besides kind, format and precision; JSON data.
        parent: hash of the artefact that this one is made from.
        options: what else the exporter is told; part of the material.
    """

    kind: str
    format: str
    main: str
    spec: Network
    precision: str
    material: Mapping[str, Any]
    parent: str | None = None
    opset: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Hash of everything that decides the content."""
        names = {"kind": self.kind, "format": self.format, "precision": self.precision, "opset": self.opset}
        return canonical_sha256({**self.material, **names, "options": dict(self.options)})

    @property
    def folder(self) -> Path:
        """Where the artefact lies below the exports folder."""
        name = f"{self.precision}-{self.spec.input_size}-{self.format}-{self.key[:KEY_CHARACTERS]}"
        return Path(self.spec.variant) / name


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a writer says about the files it has put into the folder.

    Attributes:
        inputs: name, element type and shape of each, a free dimension by its name.
        outputs: likewise.
        tools: versions of the libraries that made the files, beyond vggbench and Python.
        sha256: of files that were hashed while they were written, by name; the others are read again.
        facts: what else was found out while they were made; JSON data.
    """

    inputs: tuple[TensorShape, ...] = ()
    outputs: tuple[TensorShape, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def prepare(
    request: Request, exports: Path, write: Callable[[Path], Written], *, hash_existing: bool = False
) -> Artefact:
    """Return the artefact, made by `write` into the folder it is given unless it exists already.

    What exists is held against request and manifest; its files by their sizes, and with `hash_existing` by their
    hashes, which whoever opens them does anyway (`check_files`).

    Raises:
        ArtefactError: what exists is not whole, or the folder cannot be written.
        ExportError: memory ran out while it was made.
    """
    folder = exports.absolute() / request.folder
    try:
        found = _existing(folder, request)
        if found is not None:
            if hash_existing:
                check_files(found, stream_sha256)
            return found
        with locked(folder.parent):
            return _existing(folder, request) or _make(folder, request, write)
    except OSError as error:
        raise ArtefactError(
            f"{folder}: cannot be written: {error.strerror or error}; make room there or name another exports folder"
        ) from error
    except (MemoryError, RuntimeError) as error:
        if not _is_of_memory(error):
            raise
        raise ExportError(
            f"{folder}: memory ran out while it was made; give this process more of it, or ask for a smaller network"
        ) from error


def _is_of_memory(error: MemoryError | RuntimeError) -> bool:
    """PyTorch's allocator raises no exception of its own on a CPU, but names itself in the message."""
    return isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)


def exists(request: Request, exports: Path) -> bool:
    """Whether the artefact was made already; nothing in it is looked at."""
    return (exports.absolute() / request.folder).exists()


def read_artefact(folder: Path) -> Artefact:
    """Return the artefact that a folder holds, without reading the files themselves.

    Raises:
        ArtefactError: the manifest is missing, broken or edited, or a file is missing or of another size.
    """
    return _artefact(folder.absolute(), read_manifest(folder))


def _artefact(folder: Path, manifest: Manifest) -> Artefact:
    for name, entry in manifest.files.items():
        _check_size(folder / name, entry)
    return Artefact(
        kind=manifest.kind,
        folder=str(folder),
        main=manifest.main,
        files=manifest.hashes,
        sha256=manifest.sha256,
        spec=manifest.spec,
        precision=manifest.precision,
        seconds=manifest.seconds,
    )


def tool_versions(*distributions: str) -> dict[str, str]:
    """Return the installed versions by name, without importing anything; `ExportError` names one that is missing."""
    try:
        return {name: importlib.metadata.version(name) for name in distributions}
    except importlib.metadata.PackageNotFoundError as error:
        raise ExportError(f"the package {error.name} is not installed; install vggbench again") from error


def portable_spec(spec: Network) -> dict[str, Any]:
    """Return the spec as JSON data without the folder that its file, or its weights file, lay in."""
    data = spec.to_json()
    if isinstance(spec, NetworkFile):
        return data | {"path": Path(spec.path).name}
    return data if spec.has_generated_weights else data | {"weights": Path(spec.weights).name}


def _check_size(path: Path, entry: FileEntry) -> None:
    if not path.is_file():
        raise ArtefactError(f"{path}: the file is missing; {REMEDY}")
    found = path.stat().st_size
    if found != entry.bytes:
        raise ArtefactError(f"{path}: {found} bytes, the manifest says {entry.bytes}; {REMEDY}")


def _existing(folder: Path, request: Request) -> Artefact | None:
    if not folder.exists():
        return None
    manifest = read_manifest(folder)
    for name, (made_for, asked) in _compared(manifest, request).items():
        if made_for != asked:
            raise ArtefactError(f"{folder}: made for {name} {made_for}, this request has {asked}; {REMEDY}")
    return _artefact(folder, manifest)


def _compared(manifest: Manifest, request: Request) -> dict[str, tuple[object, object]]:
    """Return what a manifest says beside what was requested; the key first, since it decides all the others."""
    return {
        "key": (manifest.key, request.key),
        "kind": (manifest.kind, request.kind),
        "main file": (manifest.main, request.main),
        "spec": (_digest(manifest.spec), request.spec.digest()),
        "precision": (manifest.precision, request.precision),
        "opset": (manifest.opset, request.opset),
        "options": (manifest.options, dict(request.options)),
        "parent": (manifest.parent, request.parent),
    }


def _digest(spec: Mapping[str, Any]) -> str:
    """Return the digest of a manifest's spec, or what is wrong with it."""
    try:
        return network_from_json(spec).digest()
    except RequestError as error:
        return f"that cannot be read ({error})"


@contextmanager
def locked(parent: Path, timeout_s: float | None = None) -> Iterator[None]:
    """Keep exporters of a variant's folder out; `ArtefactError` where another process does not let go in time."""
    parent.mkdir(parents=True, exist_ok=True)
    path, limit_s = parent / LOCK_NAME, LOCK_TIMEOUT_S if timeout_s is None else timeout_s
    try:
        with FileLock(path, timeout=limit_s):
            yield
    except Timeout as error:
        held = f"has held it for {limit_s / 60:.0f} minutes" if limit_s else "holds it"
        raise ArtefactError(f"{path}: another process {held}; end that export and try again") from error


def _make(folder: Path, request: Request, write: Callable[[Path], Written]) -> Artefact:
    for left in folder.parent.glob(f"{UNFINISHED}*"):
        shutil.rmtree(left)
    unfinished = folder.with_name(UNFINISHED + folder.name)
    unfinished.mkdir()
    try:
        start = time.perf_counter()
        with garbage_left():
            written = write(unfinished)
        _finish(unfinished, request, written, time.perf_counter() - start)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    flush(folder.parent)
    return read_artefact(folder)


@contextmanager
def garbage_left() -> Iterator[None]:
    """Collect no garbage: writers load torch and its exporter, a million objects that stay and are slow to search."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            _take_as_old()
            gc.enable()


def _take_as_old() -> None:
    """Let new objects count as old ones, or the very next one would have them all searched: half a second."""
    if not gc.get_freeze_count():  # else it would give back what somebody froze for good
        gc.freeze()
        gc.unfreeze()


def _finish(folder: Path, request: Request, written: Written, seconds: float) -> None:
    """Write the manifest over what the folder holds, and flush all of it to the disk."""
    paths = sorted(path for path in folder.iterdir())
    hashes = {path.name: written.sha256.get(path.name) or file_sha256(path) for path in paths}
    files = {path.name: {"sha256": hashes[path.name], "bytes": path.stat().st_size} for path in paths}
    entries = {
        "schema": SCHEMA,
        "kind": request.kind,
        "main": request.main,
        "spec": portable_spec(request.spec),
        "precision": request.precision,
        "opset": request.opset,
        "options": dict(request.options),
        "inputs": [_tensor_entry(tensor) for tensor in written.inputs],
        "outputs": [_tensor_entry(tensor) for tensor in written.outputs],
        "tools": {"vggbench": VERSION, "python": platform.python_version(), **written.tools},
        "files": files,
        "sha256": combined_hash(hashes),
        "key": request.key,
        "parent": request.parent,
        "seconds": round(seconds, 3),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **_description(request.spec),
        **({"facts": dict(written.facts)} if written.facts else {}),
    }
    write_manifest(folder, entries)
    for path in paths:
        shutil.copymode(folder / MANIFEST_NAME, path)  # some libraries write files that only their owner can read
    for path in (*paths, folder / MANIFEST_NAME, folder):
        flush(path)


def _description(spec: Network) -> dict[str, Any]:
    """Return what the weights say of themselves, as entries of a manifest; none where they say nothing."""
    found = describe(spec)
    entries: dict[str, Any] = {"classes": list(found.classes)} if found.classes else {}
    if found.preprocessing is not None:
        entries["preprocessing"] = found.preprocessing.to_json()
    return entries


def _tensor_entry(tensor: TensorShape) -> dict[str, Any]:
    name, dtype, shape = tensor
    return {"name": name, "dtype": dtype, "shape": list(shape)}


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk: a file whose name is not is lost with the power."""
    if os.name == "nt":  # folders cannot be opened there, nor files flushed that are open for reading
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
