"""The software a figure depends on: library versions, GPU driver, vggbench's own commit.

Standard library only; versions come from the installed distributions' metadata, nothing is imported to be asked.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from vggbench.environment.cgroup import read_text
from vggbench.version import VERSION

LIBRARIES = ("torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "openvino", "numpy")
# Beginnings of the names of environment variables by which libraries choose instructions, precisions and threads.
_VARIABLES = (
    *("ATEN_", "DNNL_", "GOMP_", "KMP_", "MALLOC_", "MKL_", "OMP_", "ONEDNN_", "OPENBLAS_", "ORT_", "OV_", "TBB_"),
    *("NVIDIA_TF32_", "TORCHINDUCTOR_", "TORCH_ALLOW_TF32_", "GLIBC_TUNABLES", "LD_PRELOAD"),
)
_PLACES = ("_DIR", "_PATH")  # where something is kept changes no figure


def library_versions() -> dict[str, str | None]:
    """Return the version of each of `LIBRARIES` and of vggbench; None for what is not installed."""
    return {"vggbench": VERSION} | {name: _version(name) for name in LIBRARIES}


def library_variables(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment variables that change how fast or how exactly libraries compute, by name."""
    chosen = (name for name in variables if name.startswith(_VARIABLES) and not name.endswith(_PLACES))
    return {name: variables[name] for name in sorted(chosen)}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def distribution_conflicts() -> list[str]:
    """Return one line for each import package that several installed distributions write to, with the way out.

    ONNX Runtime's distributions (`onnxruntime`, `onnxruntime-gpu`, `onnxruntime-openvino`, ...) all own the folder
    `onnxruntime`; pip installs one over the other and uninstalling either leaves the rest broken.
    """
    owners = {
        distribution.name.lower().replace("_", "-"): distribution.version
        for distribution in metadata.distributions()
        if re.match(r"onnxruntime|ort[-_]nightly", distribution.name or "", re.IGNORECASE)
        and any(file.parts[0] == "onnxruntime" for file in distribution.files or ())
    }
    return [_conflict("onnxruntime", owners)] if len(owners) > 1 else []


def _conflict(package: str, owners: dict[str, str]) -> str:
    names = sorted(owners)
    wanted = "onnxruntime-gpu" if _has_gpu_build() else "onnxruntime"
    kept = wanted if wanted in owners else names[0]
    listed = " and ".join(f"{name} {owners[name]}" for name in names)
    return (
        f"{listed} are installed over each other in the package `{package}`: which one runs is chance; "
        f"run `pip uninstall -y {' '.join(names)}`, then `pip install {kept}=={owners[kept]}`"
    )


def _has_gpu_build() -> bool:
    """Repeat the environment marker of pyproject.toml."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def driver_version(root: Path = Path("/")) -> str | None:
    """Return the NVIDIA kernel driver's version, None without one."""
    text = read_text(root / "proc/driver/nvidia/version")
    found = re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", text)
    return found.group(1) if found else None


def gpu_names(root: Path = Path("/")) -> tuple[str, ...]:
    """Return the NVIDIA GPUs' model names by PCI address, as the kernel driver lists them."""
    texts = (read_text(path) for path in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")))
    models = (re.search(r"^Model:\s*(.+?)\s*$", text, re.MULTILINE) for text in texts)
    return tuple(model.group(1) for model in models if model)


def source_commit(checkout: Path | None = None) -> str | None:
    """Return the commit of the git checkout vggbench runs from, with `-dirty` if tracked files are changed.

    None where it was installed as a package, or git is missing.
    """
    folder = checkout or Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
