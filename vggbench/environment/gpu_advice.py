"""What fits together of driver, torch, onnxruntime-gpu and TensorRT, and what to change: one finding a line.

Reads nothing: judges what `nvidia` and `gpu_software` have read by the table of `compatibility`. The standard library
only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vggbench.environment.compatibility import MATRIX, Row, best_row
from vggbench.environment.gpu_software import GpuSoftware, TensorRt
from vggbench.environment.nvidia import Gpu, NvidiaFacts

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of advice.

    Attributes:
        subject: what it is about.
        text: what was found.
        remedy: what to do; empty where nothing need be done.
    """

    subject: str
    text: str
    remedy: str = ""


def row_for(facts: NvidiaFacts) -> Row | None:
    """Return the newest row of the table that the driver serves; None without a driver, or for one that is too old."""
    return best_row(facts.cuda_major) if facts.seen and facts.cuda_major is not None else None


def advise(facts: NvidiaFacts, software: GpuSoftware) -> list[Finding]:
    """Return what was found, from the driver up; without a driver only that there is none: nothing can run."""
    findings = [_driver(facts), *(_gpu(gpu, row_for(facts)) for gpu in facts.gpus)]
    row = row_for(facts)
    if row is not None:
        findings += [_row(row), _torch(software, row), _onnxruntime(software, row)]
        findings += [_provider(software, row), *_tensorrts(software, row)]
    return findings


def _driver(facts: NvidiaFacts) -> Finding:
    name = "NVIDIA driver"
    if not facts.seen:
        return Finding(name, "none: backends run on the CPU")
    supported = f"supports CUDA {_dotted(facts.cuda)}" if facts.cuda else _by_number(facts.cuda_major)
    text = f"{facts.driver or 'of unknown version'}, {supported}, told by {facts.source}"
    if facts.trouble:
        return Finding(
            name,
            f"{text}; {facts.trouble}",
            "let NVIDIA's libraries in, which fit the driver (a container needs --gpus all and NVIDIA's toolkit)",
        )
    if row_for(facts) is None:
        oldest = MATRIX[-1]
        return Finding(name, text, f"too old for every row of the table: update it to {oldest.first_driver} or newer")
    if facts.cuda_major is not None and facts.cuda_major < MATRIX[0].cuda_major:
        return Finding(name, text, f"update it to {MATRIX[0].first_driver} or newer for CUDA {MATRIX[0].cuda_major}")
    return Finding(name, text)


def _by_number(major: int | None) -> str:
    return "supports no CUDA that is in use here" if major is None else f"supports CUDA {major} by its number"


def _gpu(gpu: Gpu, row: Row | None) -> Finding:
    parts = [gpu.name]
    if gpu.compute_capability is not None:
        parts.append(f"compute capability {_dotted(gpu.compute_capability)}")
    if gpu.memory_bytes is not None:
        parts.append(f"{gpu.memory_bytes / _GIB:.0f} GiB")
    if gpu.mig:
        parts.append("cut into MIG instances")
    subject, text = f"GPU {gpu.index}", ", ".join(parts)
    if row is None or gpu.compute_capability is None:
        return Finding(subject, text)
    first, last = row.capabilities
    if gpu.compute_capability < first:
        return Finding(subject, text, f"too old for CUDA {row.cuda_major}, which starts at {_dotted(first)}")
    if gpu.compute_capability > last:
        return Finding(
            subject, text, f"newer than the {_dotted(last)} that torch's builds for CUDA {row.cuda_major} know"
        )
    return Finding(subject, text)


def _row(row: Row) -> Finding:
    text = f"CUDA {row.cuda_major}: torch {row.torch.text}; onnxruntime-gpu {row.onnxruntime_gpu.text}"
    return Finding("goes together", f"{text}; versions in {row.constraints}")


def _torch(software: GpuSoftware, row: Row) -> Finding:
    want = f"install {row.torch_source}, with -c {row.constraints}"
    if software.torch is None:
        return Finding("torch", "not installed", want)
    if software.torch_cuda is None:
        return Finding("torch", f"{software.torch}, built without CUDA", want)
    text = f"{software.torch}, built for CUDA {_dotted(software.torch_cuda)}"
    if software.torch_cuda[0] > row.cuda_major:
        return Finding("torch", f"{text}: the driver supports {row.cuda_major}", f"update the driver, or {want}")
    return Finding("torch", text)


def _onnxruntime(software: GpuSoftware, row: Row) -> Finding:
    first, beyond = row.onnxruntime
    want = f"pip install 'onnxruntime-gpu>={_dotted(first)},<{_dotted(beyond)}'"
    if software.onnxruntime is None:
        return Finding("onnxruntime-gpu", "not installed", want)
    if software.onnxruntime_cuda is None:
        return Finding("onnxruntime-gpu", f"onnxruntime {software.onnxruntime} has no CUDA", want)
    text = f"{software.onnxruntime}, built for CUDA {_dotted(software.onnxruntime_cuda)}"
    if software.onnxruntime_cuda[0] > row.cuda_major:
        return Finding("onnxruntime-gpu", f"{text}: the driver supports {row.cuda_major}", want)
    if software.torch_cuda is not None and software.torch_cuda[0] != software.onnxruntime_cuda[0]:
        other = f"torch brings the libraries of CUDA {software.torch_cuda[0]}, which it cannot load"
        return Finding("onnxruntime-gpu", f"{text}: {other}", want)
    return Finding("onnxruntime-gpu", text)


def _provider(software: GpuSoftware, row: Row) -> Finding:
    """Say whether ONNX Runtime's TensorRT provider finds the library that it was linked with."""
    name, wanted = "TensorRT provider", software.wanted_nvinfer
    if wanted is None:
        return Finding(name, "onnxruntime has none")
    found = software.found("tensorrt").libraries
    if wanted in found:
        return Finding(name, f"loads libnvinfer.so.{wanted}: {found[wanted]}")
    instead = f", only of version {' and '.join(map(str, found))}" if found else ""
    remedy = f"pip install 'tensorrt-cu{row.cuda_major}<{wanted + 1}' for onnxruntime-tensorrt"
    return Finding(name, f"wants libnvinfer.so.{wanted}, which is not found{instead}", remedy)


def _tensorrts(software: GpuSoftware, row: Row) -> Iterator[Finding]:
    for name in ("tensorrt", "tensorrt-rtx"):
        yield _tensorrt(software.found(name), row)


def _tensorrt(found: TensorRt, row: Row) -> Finding:
    wanted = f"{found.name}-cu{row.cuda_major}"
    files = _files(found.libraries)
    if found.version is None:
        bindings = f"no Python bindings{', ' + files if files else ''}"
        return Finding(found.name, bindings, f"pip install {wanted}")
    text = f"{found.distribution} {found.version}, {files or 'its libraries are missing'}"
    if found.major not in found.libraries:
        return Finding(found.name, text, f"pip install --force-reinstall {wanted}=={found.version}")
    if found.cuda_major is not None and found.cuda_major > row.cuda_major:
        return Finding(found.name, f"{text}: the driver supports CUDA {row.cuda_major}", f"pip install {wanted}")
    return Finding(found.name, text)


def _files(libraries: Mapping[int, str]) -> str:
    return " and ".join(libraries.values())


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
