"""A stand-in for the module `pynvml`: answers as a driver's NVML would, or refuses as it would."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any


class NvmlError(Exception):
    """What every NVML call raises."""


def refuse(reason: str) -> Callable[..., Any]:
    def question(*_arguments: Any) -> Any:
        raise NvmlError(reason)

    return question


def gpu(name: str = "NVIDIA H200", **answers: Any) -> dict[str, Any]:
    """Return the answers of one GPU, by the question's name without `nvmlDeviceGet`."""
    uuid = f"GPU-{abs(hash(name)):08x}"
    memory = SimpleNamespace(total=141 << 30)
    return {
        "Name": name,
        "UUID": uuid,
        "CudaComputeCapability": (9, 0),
        "MemoryInfo": memory,
        "MigMode": (0, 0),
    } | answers


def nvml(
    gpus: Sequence[Mapping[str, Any]] = (), *, driver: str = "580.65.06", cuda: int = 13000, **changes: Any
) -> ModuleType:
    """Return the module; what a GPU has no answer to, it does not support."""
    module = ModuleType("pynvml")

    def asked(question: str) -> Callable[[Mapping[str, Any]], Any]:
        def answer(handle: Mapping[str, Any]) -> Any:
            if question not in handle:
                raise NvmlError("Not Supported")
            return handle[question]

        return answer

    def handle(index: int) -> Mapping[str, Any]:
        if not gpus[index]:
            raise NvmlError("GPU is lost")
        return gpus[index]

    questions = ("Name", "UUID", "CudaComputeCapability", "MemoryInfo", "MigMode")
    answers: dict[str, Any] = {
        "NVMLError": NvmlError,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: driver,
        "nvmlSystemGetCudaDriverVersion_v2": lambda: cuda,
        "nvmlDeviceGetCount": lambda: len(gpus),
        "nvmlDeviceGetHandleByIndex": handle,
        **{f"nvmlDeviceGet{question}": asked(question) for question in questions},
    }
    module.__dict__.update({**answers, **changes})
    return module
