"""What the NVIDIA driver says of itself and of its GPUs: for device choice, the doctor, and whoever gives advice.

`read_nvidia()` gives an `NvidiaFacts`: the driver's version, the newest CUDA that it supports, the GPUs with their
compute capabilities, memory and MIG mode, which of the three ways told it (NVML; `/proc/driver/nvidia`, which knows
no CUDA; libcuda, which knows nothing else), and in one line why a driver that is there could not be asked.

Nothing here creates a context on a GPU, chooses one, or heeds `CUDA_VISIBLE_DEVICES`; the index is the driver's own.
The standard library, and nvidia-ml-py inside functions; never torch.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vggbench.environment import software
from vggbench.environment.compatibility import cuda_of_driver
from vggbench.environment.gpus import asked

_ROOT = Path("/")
_LIBCUDA = "libcuda.so.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU as the driver lists it; None is what it does not tell.

    Attributes:
        index: the driver's, which `CUDA_VISIBLE_DEVICES` may turn into another number for CUDA.
        compute_capability: major and minor: (9, 0) for Hopper.
        mig: whether it is cut into instances; None where it cannot be.
    """

    index: int
    name: str
    uuid: str | None
    compute_capability: tuple[int, int] | None
    memory_bytes: int | None
    mig: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaFacts:
    """The driver and its GPUs.

    Attributes:
        driver: the driver's version, as `580.65.06`; None where none is loaded.
        cuda: the newest CUDA that it supports, major and minor; None where only the driver's number is known.
        gpus: what it lists, in its order.
        source: what told it: `NVML`, `/proc/driver/nvidia`, `libcuda`; empty where nothing did.
        trouble: why a driver that is there could not be asked, in one line; empty where it could, or none is there.
    """

    driver: str | None = None
    cuda: tuple[int, int] | None = None
    gpus: tuple[Gpu, ...] = ()
    source: str = ""
    trouble: str = ""

    @property
    def seen(self) -> bool:
        """Whether there is an NVIDIA driver at all, usable or not."""
        return bool(self.source)

    @property
    def cuda_major(self) -> int | None:
        """The newest CUDA major that programs may be built for; None where there is no driver, or an ancient one."""
        if self.cuda is not None:
            return self.cuda[0]
        return cuda_of_driver(self.driver) if self.driver else None


def read_nvidia(root: Path = _ROOT) -> NvidiaFacts:
    """Ask NVML, then the kernel's files below `root` (`/` but in tests), then libcuda; a few milliseconds."""
    found, trouble = _from_nvml()
    if found is not None:
        return found
    driver = software.driver_version(root)
    if driver is not None:
        return NvidiaFacts(
            driver=driver,
            cuda=_libcuda_version(),
            gpus=tuple(_listed(root)),
            source="/proc/driver/nvidia",
            trouble=trouble,
        )
    cuda = _libcuda_version()
    return NvidiaFacts(cuda=cuda, source="libcuda", trouble=trouble) if cuda else NvidiaFacts()


def _listed(root: Path) -> Iterator[Gpu]:
    for index, name in enumerate(software.gpu_names(root)):
        yield Gpu(index=index, name=name, uuid=None, compute_capability=None, memory_bytes=None, mig=None)


def _from_nvml() -> tuple[NvidiaFacts | None, str]:
    """Return what NVML says, or why it says nothing."""
    try:
        import pynvml
    except ImportError:
        return None, "nvidia-ml-py, which asks the driver, is not installed"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return None, f"NVML does not answer: {error}"
    try:
        facts = NvidiaFacts(
            driver=asked(pynvml.nvmlSystemGetDriverVersion),
            cuda=_version(asked(pynvml.nvmlSystemGetCudaDriverVersion_v2)),
            gpus=tuple(_gpus(pynvml)),
            source="NVML",
        )
    finally:
        pynvml.nvmlShutdown()  # counted: a handle that is held elsewhere stays good
    return facts, ""


def _gpus(nvml: Any) -> Iterator[Gpu]:
    for index in range(asked(nvml.nvmlDeviceGetCount) or 0):
        handle = asked(nvml.nvmlDeviceGetHandleByIndex, index)
        if handle is None:  # fallen off the bus, or not for this user: what is listed must be there
            continue
        memory = asked(nvml.nvmlDeviceGetMemoryInfo, handle)
        capability = asked(nvml.nvmlDeviceGetCudaComputeCapability, handle)
        mig = asked(nvml.nvmlDeviceGetMigMode, handle)
        yield Gpu(
            index=index,
            name=asked(nvml.nvmlDeviceGetName, handle) or "a GPU without a name",
            uuid=asked(nvml.nvmlDeviceGetUUID, handle),
            compute_capability=None if capability is None else (int(capability[0]), int(capability[1])),
            memory_bytes=None if memory is None else int(memory.total),
            mig=None if mig is None else bool(mig[0]),
        )


def _libcuda_version() -> tuple[int, int] | None:
    """Ask libcuda for the CUDA that it supports, which needs no GPU and makes no context."""
    number = ctypes.c_int(0)
    try:
        failed = ctypes.CDLL(_LIBCUDA).cuDriverGetVersion(ctypes.byref(number))
    except (OSError, AttributeError):  # not there, or a stub without the function
        return None
    return None if failed else _version(number.value)


def _version(number: int | None) -> tuple[int, int] | None:
    """Return (13, 0) for CUDA's 13000."""
    return divmod(number // 10, 100) if number else None
