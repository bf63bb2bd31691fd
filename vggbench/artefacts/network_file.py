"""An ONNX file of somebody else's as an artefact: read when a run is planned, copied when it is prepared.

Imports onnx inside its functions. The copy is the file itself, byte for byte, with the files that it keeps its weights
in: what is timed is what was given.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vggbench.artefacts.artefact import Artefact, combined_hash, file_sha256
from vggbench.artefacts.manifest import FILE_NAME, MANIFEST_NAME
from vggbench.artefacts.network_check import (
    check_file,
    check_operations,
    interface,
    refusal,
    stored_floats,
    stored_tensors,
)
from vggbench.artefacts.onnx import ONNX_FILE
from vggbench.artefacts.store import Request, Written, exists, prepare
from vggbench.errors import ArtefactError, RequestError
from vggbench.models.network_file import NetworkFile
from vggbench.models.spec import IMAGE_CHANNELS

if TYPE_CHECKING:
    import onnx

_LONGEST_NAME = 60  # characters of a folder's name in the store
_REMEDY = 'save it again with onnx.save(model, "net.onnx", save_as_external_data=True, location="net.data")'


def read_network_file(name: str, input_size: int | None = None) -> NetworkFile:
    """Return what an ONNX file is; `input_size` is for one that takes images of any size.

    Raises:
        RequestError: it cannot be read, is no ONNX, or no network that maps images `(N, 3, S, S)` to `(N, classes)`.
    """
    path = _found(name)
    model = load_graph(path)
    files = _files(path, model)
    check_operations(path, model)
    face = interface(path, model.graph, input_size)
    check_file(path)
    stored = stored_floats(model.graph)
    return NetworkFile(
        variant=re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem)[:_LONGEST_NAME].lstrip(".-") or "network",
        path=str(path),
        sha256=combined_hash({file: _sha256(source) for file, source in files.items()}),
        input_name=face.input_name,
        output_name=face.output_name,
        input_size=face.input_size,
        num_classes=face.num_classes,
        batch_size=face.batch_size,
        parameters=sum(stored.values()),
        weights_type="+".join(sorted(stored)) or "fp32",
    )


def network_artefact(network: NetworkFile, exports: Path) -> Artefact:
    """Return the file's copy in the store, made once and then found again.

    Raises `ArtefactError` if the file is no longer what it was when the run was planned.
    """
    return prepare(_request(network), exports, lambda folder: _copy(network, folder))


def missing_bytes(network: NetworkFile, exports: Path) -> int:
    """Return how much `network_artefact` would write: 0 if it is there."""
    if exists(_request(network), exports):
        return 0
    path = _found(network.path)
    return sum(source.stat().st_size for source in _files(path, load_graph(path)).values())


def _request(network: NetworkFile) -> Request:
    return Request(
        kind="onnx",
        format="onnx",
        main=ONNX_FILE,
        spec=network,
        precision=network.weights_type,
        material={"onnx": network.sha256, "input_size": network.input_size},
    )


def load_graph(path: Path, *, with_data: bool = False) -> onnx.ModelProto:
    """Return the model with its functions written out; `RequestError` if the file is not ONNX."""
    import onnx.inliner
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, format="protobuf", load_external_data=with_data)
    except DecodeError:
        raise refusal(path, "is not ONNX, or was cut off; export it again") from None
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from None
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def _found(name: str) -> Path:
    try:
        path = Path(name).expanduser().resolve()
        found, folder = path.is_file(), path.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # too long, of nobody's home, with a zero byte
        raise RequestError(f"ONNX file {name[:80]!r} cannot be looked up: {error}") from None
    if folder:
        raise RequestError(f"ONNX file {name!r} is a folder; name the file in it")
    if not found:
        raise RequestError(f"ONNX file {name!r} does not exist; check the path")
    return path


def _files(path: Path, model: onnx.ModelProto) -> dict[str, Path]:
    """Return where the file and what it keeps beside it lie, by the names that they have in the store."""
    files = {ONNX_FILE: path}
    for tensor in stored_tensors(model.graph):
        if tensor.data_location == tensor.EXTERNAL:
            # Bytes where they are not UTF-8.
            place = {str(entry.key): str(entry.value) for entry in tensor.external_data}
            files[place["location"]] = _data_file(path, place)
    return files


def _data_file(path: Path, place: Mapping[str, str]) -> Path:
    """Return the file that a tensor lies in; `RequestError` if it is not beside the graph or ends too soon."""
    location = place.get("location", "")
    if not re.fullmatch(FILE_NAME, location) or location in (ONNX_FILE, MANIFEST_NAME):
        raise refusal(path, f"keeps weights in {location!r}, which is no plain name beside it; {_REMEDY}")
    data = path.parent / location
    if not data.is_file():
        raise refusal(path, f"keeps weights in {location!r}, and there is no such file beside it")
    extent = place.get("offset", "0"), place.get("length", "0")
    if not all(number.isdecimal() for number in extent) or sum(map(int, extent)) > data.stat().st_size:
        raise refusal(path, f"points {' + '.join(extent)} bytes into {location!r}, beyond its end")
    return data


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from None


def _copy(network: NetworkFile, folder: Path) -> Written:
    path = _found(network.path)
    files = _files(path, load_graph(path))
    for name, source in files.items():
        shutil.copyfile(source, folder / name)
    hashes = {name: file_sha256(folder / name) for name in files}
    if combined_hash(hashes) != network.sha256:
        raise ArtefactError(f"{path} is not what it was when the run was planned; plan a new run")
    batch, side = network.batch_size or "batch", network.input_size
    return Written(
        inputs=((network.input_name, "float32", (batch, IMAGE_CHANNELS, side, side)),),
        outputs=((network.output_name, "float32", (batch, network.num_classes)),),
        sha256=hashes,
    )
