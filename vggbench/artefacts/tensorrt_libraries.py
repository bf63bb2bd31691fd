"""Which TensorRTs are installed, by their metadata; which of them work, by importing each in a process of its own.

Engines are built by three: TensorRT 10 and 11, which share a module, so that one of them is installed at a time, and
TensorRT for RTX. The standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

from vggbench.artefacts.engine_process import library_version
from vggbench.environment.gpu_software import TENSORRT_DISTRIBUTIONS
from vggbench.errors import ExportError, RequestError

MODULES = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}
# Of each extra: the library, its major version where that decides, and what it is good for.
_EXTRAS = {
    "rtx": ("tensorrt-rtx", "", "builds engines on any machine; they run on RTX GPUs"),
    "trt10": (
        "tensorrt",
        "10",
        "builds engines on the GPU that they run on; onnxruntime-gpu's provider needs this one",
    ),
    "trt11": ("tensorrt", "11", "builds engines on the GPU that they run on"),
}


@dataclass(frozen=True, slots=True)
class Library:
    """A TensorRT that is installed.

    Attributes:
        name: `tensorrt` or `tensorrt-rtx`, as formats and backends are called.
        module: what is imported.
        version: as its distribution says; nothing was imported.
    """

    name: str
    module: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What was found of one of the three.

    Attributes:
        extra: of vggbench's that installs it.
        label: its name, with the major version where several have one.
        version: as the library says itself; empty where it cannot be used.
        purpose: what it is good for.
        reason, remedy: why it cannot be used, and what to do; empty where it can.
    """

    extra: str
    label: str
    version: str
    purpose: str
    reason: str
    remedy: str


def installed(name: str) -> Library | None:
    """Return the library of a name, None where no distribution of it is installed."""
    for distribution in TENSORRT_DISTRIBUTIONS[name]:
        try:
            return Library(name, MODULES[name], metadata.version(distribution))
        except metadata.PackageNotFoundError:
            continue
    return None


def find_library(name: str) -> Library:
    """Return the library of a name; `RequestError` with the way to get it where it is not installed."""
    found = installed(name)
    if found is None:
        extras = [extra for extra, (library, _major, _purpose) in _EXTRAS.items() if library == name]
        raise RequestError(f"{name} is not installed, and builds the engines; {' or '.join(map(_install, extras))}")
    return found


def examine() -> list[Examined]:
    """Return what is found of each of the three, imported in a process of its own."""
    return [_examined(extra, *known) for extra, known in _EXTRAS.items()]


def _examined(extra: str, name: str, major: str, purpose: str) -> Examined:
    version, reason, remedy = "", "not installed", _install(extra)
    library = installed(name)
    if library is not None and major and not library.version.startswith(f"{major}."):
        reason = f"{name} {library.version} is installed in its place"
        remedy = f"pip uninstall it and {remedy}, where this one is needed"
    elif library is not None:
        try:
            version, reason, remedy = library_version(library.module), "", ""
        except ExportError as error:
            reason, remedy = str(error), f"{remedy} --force-reinstall"
    label = f"{name} {major}".strip()
    return Examined(extra=extra, label=label, version=version, purpose=purpose, reason=reason, remedy=remedy)


def _install(extra: str) -> str:
    return f"pip install 'vggbench[{extra}]'"
