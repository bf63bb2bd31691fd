"""NVIDIA GPUs as the driver tells of them, usable or not. Standard library, and nvidia-ml-py inside functions.

No CUDA is asked: whether a GPU can be computed on is known to the libraries that would do it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vggbench.environment.software import driver_version, gpu_names

ROOT = Path("/")
VISIBLE = "CUDA_VISIBLE_DEVICES"
_DEVICE = re.compile(r"cpu|cuda(:(0|[1-9]\d{0,2}))?")
_SMI_SECONDS = 20.0  # a driver that has to wake every GPU first was seen to take some


@dataclass(frozen=True, slots=True)
class SeenGpus:
    """GPUs that are here, whatever can be done with them.

    Attributes:
        names: model names in the driver's order; empty where it tells of GPUs but not which.
        driver: the driver's version; None where it cannot be read.
    """

    names: tuple[str, ...]
    driver: str | None

    @property
    def text(self) -> str:
        """One short phrase for a message."""
        what = " and ".join(dict.fromkeys(self.names)) or "an NVIDIA GPU"
        return f"{what}, driver {self.driver}" if self.driver else what


def canonical_device(text: str) -> str | None:
    """Return `cpu`, `cuda` (the first one) or `cuda:N`, so that one device has one name; None for anything else."""
    if _DEVICE.fullmatch(text) is None:
        return None
    return "cuda" if text == "cuda:0" else text


def gpu_index(device: str) -> int | None:
    """Return CUDA's number of `cuda` or `cuda:N`; None for another device."""
    found = canonical_device(device)
    return None if found is None or found == "cpu" else int(found.partition(":")[2] or "0")


def seen_gpus(root: Path = ROOT) -> SeenGpus | None:
    """Return what NVML, the kernel or `nvidia-smi` tell of NVIDIA GPUs, the first that tells; None without any."""
    names, driver = _nvml_names(), driver_version(root)
    if not names:
        names = gpu_names(root) or _smi_names()
    nodes = [*(root / "dev").glob("nvidia[0-9]*")]
    return SeenGpus(names, driver or _nvml_driver()) if names or nodes else None


def are_hidden(variables: Mapping[str, str] = os.environ) -> bool:
    """Say whether `CUDA_VISIBLE_DEVICES` shows no GPU at all, which is how somebody asks for the CPU."""
    shown = variables.get(VISIBLE)
    return shown is not None and shown.split(",")[0].strip() in ("", "-1")


def handle_of(device: str) -> Any:
    """Return NVML's handle of the GPU that CUDA has under this name; None without NVML or such a GPU."""
    name = _nvml_name(device)
    return None if name is None else _handle(name)


def asked(question: Any, *arguments: Any) -> Any:
    """Return NVML's answer; None where this GPU does not support the question."""
    import pynvml

    try:
        return question(*arguments)
    except pynvml.NVMLError:
        return None


def gpu_name(device: str) -> str:
    """Return a GPU's model name by NVML, or by the kernel's list; '' where neither has it."""
    handle = handle_of(device)
    if handle is not None:
        import pynvml

        name = asked(pynvml.nvmlDeviceGetName, handle)
        if name:
            return str(name)
    position, names = _nvml_name(device) or "", gpu_names()
    return names[int(position)] if position.isdecimal() and int(position) < len(names) else ""


@cache
def _handle(name: str) -> Any:
    """Return NVML's handle of an index or a UUID, made once a process."""
    nvml = _nvml()
    if nvml is None:
        return None
    try:
        if name.isdecimal():
            return nvml.nvmlDeviceGetHandleByIndex(int(name))
        return nvml.nvmlDeviceGetHandleByUUID(name)
    except nvml.NVMLError:
        return None


def _nvml_name(device: str) -> str | None:
    """Return the index or UUID, of a GPU or a part of one, behind CUDA's name: NVML knows nothing of the variable.

    None for another device, and where the variable does not show it.
    """
    index = gpu_index(device)
    if index is None or VISIBLE not in os.environ:
        return None if index is None else str(index)
    visible = [name.strip() for name in os.environ[VISIBLE].split(",")]
    shown = visible[index] if index < len(visible) and not are_hidden() else ""
    return shown or None


def _nvml() -> Any:
    """Return the library, initialised; None where it is missing or finds no driver."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def _nvml_names() -> tuple[str, ...]:
    nvml = _nvml()
    if nvml is None:
        return ()
    handles = [asked(nvml.nvmlDeviceGetHandleByIndex, index) for index in range(asked(nvml.nvmlDeviceGetCount) or 0)]
    return tuple(str(asked(nvml.nvmlDeviceGetName, handle)) for handle in handles if handle is not None)


def _nvml_driver() -> str | None:
    nvml = _nvml()
    version = None if nvml is None else asked(nvml.nvmlSystemGetDriverVersion)
    return None if version is None else str(version)


def _smi_names() -> tuple[str, ...]:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(line.strip() for line in answer.stdout.splitlines() if line.strip()) if answer.returncode == 0 else ()
