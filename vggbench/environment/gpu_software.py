"""Which CUDA the installed libraries were built for, and which TensorRTs lie on the disk: read, never imported.

A library says what it was built for in a small file of its own; importing it would load gigabytes and, where something
does not fit, fail. Whether a TensorRT works is asked elsewhere, by importing it in a process of its own. The standard
library only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path

from vggbench.environment.cgroup import read_text

# Distributions that bring a TensorRT's module, those that name their CUDA first; `tensorrt` is the newest, whatever
# CUDA that is for.
TENSORRT_DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = {
    "tensorrt": ("tensorrt-cu13", "tensorrt-cu12", "tensorrt"),
    "tensorrt-rtx": ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx"),
}
_LIBRARY_NAMES = {"tensorrt": "libnvinfer.so.", "tensorrt-rtx": "libtensorrt_rtx.so."}
_WHEEL_FOLDERS = {"tensorrt": "tensorrt_libs", "tensorrt-rtx": "tensorrt_rtx_libs"}
# Where the packages and archives of NVIDIA put TensorRT outside Python, below the root.
_SYSTEM_FOLDERS = (
    *("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/local/lib"),
    *("usr/local/tensorrt/lib", "usr/local/TensorRT/lib", "opt/tensorrt/lib", "opt/TensorRT/lib"),
)
_PROVIDER = "capi/libonnxruntime_providers_tensorrt.so"  # a megabyte

Version = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRt:
    """A TensorRT as far as the disk tells.

    Attributes:
        name: `tensorrt` or `tensorrt-rtx`.
        version: of its Python distribution; None where none is installed.
        distribution: which one that is; empty where none is.
        libraries: of each major version the library file that was found first.
    """

    name: str
    version: str | None
    distribution: str
    libraries: Mapping[int, str]

    @property
    def major(self) -> int | None:
        """The distribution's major version."""
        return None if self.version is None else int(self.version.partition(".")[0])

    @property
    def cuda_major(self) -> int | None:
        """The CUDA that the distribution's name tells; None where it tells none."""
        found = re.search(r"-cu(\d+)$", self.distribution)
        return int(found.group(1)) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSoftware:
    """What is installed of the libraries that use a GPU.

    Attributes:
        torch, onnxruntime: versions; None where they are not installed. ONNX Runtime of whichever build.
        torch_cuda, onnxruntime_cuda: the CUDA they were built for; None where it is none.
        wanted_nvinfer: the major version of libnvinfer that ONNX Runtime's TensorRT provider loads; None without one.
        tensorrt: what is there of each of the two.
    """

    torch: str | None = None
    torch_cuda: Version | None = None
    onnxruntime: str | None = None
    onnxruntime_cuda: Version | None = None
    wanted_nvinfer: int | None = None
    tensorrt: tuple[TensorRt, ...] = field(default=())

    def found(self, name: str) -> TensorRt:
        """Return the TensorRT of a name."""
        nothing = TensorRt(name=name, version=None, distribution="", libraries={})
        return next((one for one in self.tensorrt if one.name == name), nothing)


def read_gpu_software(
    root: Path = Path("/"),
    *,
    place: Callable[[str], Path | None] | None = None,
    version: Callable[[str], str | None] | None = None,
) -> GpuSoftware:
    """Read what is installed; `place` finds a package's folder and `version` a distribution's version, but in tests."""
    place, version = place or package_folder, version or _version
    torch, onnxruntime = place("torch"), place("onnxruntime")
    return GpuSoftware(
        torch=version("torch"),
        torch_cuda=_built_for(torch, "version.py", "cuda"),
        onnxruntime=version("onnxruntime-gpu") or version("onnxruntime"),
        onnxruntime_cuda=_built_for(onnxruntime, "capi/build_and_package_info.py", "cuda_version"),
        wanted_nvinfer=_wanted_nvinfer(onnxruntime),
        tensorrt=tuple(_tensorrt(name, root, place, version) for name in TENSORRT_DISTRIBUTIONS),
    )


def package_folder(name: str) -> Path | None:
    """Return where a package lies, without importing it; None where it is not installed."""
    found = util.find_spec(name)
    return Path(found.origin).parent if found and found.origin else None


def _library_folders(root: Path, wheel: Path | None) -> Iterator[Path]:
    """Yield the folders in which a TensorRT's library may lie: Python's, the user's, the system's."""
    if wheel is not None:
        yield wheel
    yield from (Path(folder) for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder)
    yield from (root / folder for folder in _SYSTEM_FOLDERS)


def _tensorrt(
    name: str, root: Path, place: Callable[[str], Path | None], version: Callable[[str], str | None]
) -> TensorRt:
    installed = [(distribution, version(distribution)) for distribution in TENSORRT_DISTRIBUTIONS[name]]
    distribution, found = next((pair for pair in installed if pair[1] is not None), ("", None))
    folders = _library_folders(root, place(_WHEEL_FOLDERS[name]))
    return TensorRt(name=name, version=found, distribution=distribution, libraries=_libraries(name, folders))


def _libraries(name: str, folders: Iterable[Path]) -> dict[int, str]:
    found: dict[int, str] = {}
    for folder in folders:
        for file in sorted(folder.glob(f"{_LIBRARY_NAMES[name]}*")):
            major = file.name.removeprefix(_LIBRARY_NAMES[name])
            if major.isdecimal():
                found.setdefault(int(major), str(file))
    return dict(sorted(found.items()))


def _built_for(folder: Path | None, file: str, variable: str) -> Version | None:
    """Read `cuda: Optional[str] = '13.0'` or `cuda_version = '13.0'` in a library's own file."""
    text = read_text(folder / file) if folder else ""
    found = re.search(rf"^{variable}\b[^=\n]*=\s*['\"](\d+)\.(\d+)", text, re.MULTILINE)
    return (int(found.group(1)), int(found.group(2))) if found else None


def _wanted_nvinfer(folder: Path | None) -> int | None:
    """Look into the provider's list of needed libraries, which ELF keeps as plain names."""
    provider = folder / _PROVIDER if folder else None
    if provider is None or not provider.is_file():
        return None
    found = re.search(rb"libnvinfer\.so\.(\d+)\0", provider.read_bytes())
    return int(found.group(1)) if found else None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
