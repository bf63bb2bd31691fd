"""What the CUDA driver says of the GPUs: name and compute capability, numbered as CUDA programs number them.

The driver's own library by ctypes: no torch, no NVML (which knows nothing of `CUDA_VISIBLE_DEVICES`, and numbers GPUs
by their place on the bus). Nothing is made on a GPU by asking. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from functools import cache

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_NAME_BYTES = 256
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR, of cuda.h
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that CUDA programs see.

    Attributes:
        capability: its compute capability, as (8, 9).
    """

    name: str
    capability: tuple[int, int]

    @property
    def capability_text(self) -> str:
        """The compute capability as it is written: 8.9."""
        return "{}.{}".format(*self.capability)

    @property
    def identity(self) -> str:
        """Name and compute capability: what is built for one such GPU runs on another."""
        return f"{self.name} {self.capability_text}"


@cache
def find_gpu(device: str) -> Gpu | None:
    """Return the GPU of `cuda` or `cuda:N`; None where there is none, or no driver."""
    try:
        driver = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    handle = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(handle), index_of(device)):
        return None
    name = ctypes.create_string_buffer(_NAME_BYTES)
    numbers = ctypes.c_int(), ctypes.c_int()
    failed = [
        driver.cuDeviceGetName(name, _NAME_BYTES, handle),
        *(
            driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, handle)
            for number, attribute in zip(numbers, (_MAJOR, _MINOR), strict=True)
        ),
    ]
    return None if any(failed) else Gpu(name.value.decode(), (numbers[0].value, numbers[1].value))


def index_of(device: str) -> int:
    """Return N of `cuda:N`, 0 of `cuda`."""
    _kind, _colon, index = device.partition(":")
    return int(index or 0)


def alone(device: str) -> dict[str, str]:
    """Return the variables of a process that sees this GPU alone, as its first one."""
    index = index_of(device)
    visible = os.environ.get(_VISIBLE)
    if visible is None:
        return {_VISIBLE: str(index)} if index else {}
    return {_VISIBLE: visible.split(",")[index].strip()} if index else {}
