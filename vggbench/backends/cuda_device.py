"""Whether this torch can compute on a CUDA device, and what that device does natively. Imports torch inside functions.

Every backend on CUDA works on torch's tensors and streams, so what torch cannot use none of them can.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

from vggbench.backends.base import Support, Unavailable
from vggbench.environment.compatibility import row_of_cuda
from vggbench.environment.gpus import VISIBLE, are_hidden, canonical_device, gpu_index, seen_gpus
from vggbench.environment.nvidia import read_nvidia

# The compute capability from which a GPU has arithmetic for a precision; the others every GPU that torch serves has.
_FIRST_CAPABILITIES = {"tf32": (8, 0), "bf16": (8, 0), "fp8": (8, 9)}
_CPU = "or measure the CPU with --device cpu"


def unusable(device: str) -> Unavailable | None:
    """Return why torch cannot compute on `cpu`, `cuda` or `cuda:N`, and what to do; None if it can."""
    if canonical_device(device) is None:
        return Unavailable(f"there is no device {device}", "use cpu, cuda or cuda:1")
    try:
        import torch
    except (ImportError, OSError) as error:
        return Unavailable(f"torch cannot be imported: {error}", "pip install 'torch>=2.11'")
    index = gpu_index(device)
    if index is None:
        return None
    if torch.version.cuda is None:
        return Unavailable(f"torch {torch.__version__} is built without CUDA", f"install torch's CUDA build, {_CPU}")
    return _unusable_gpu(device, index)


def _unusable_gpu(device: str, index: int) -> Unavailable | None:
    count, complaint = _device_count()
    if count == 0:
        return _nothing(complaint)
    return _missing(device, count) if index >= count else _too_old_for_torch(index)


def _device_count() -> tuple[int, str]:
    """Return how many devices CUDA has, and the first line of what torch has to say where it has none."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Not `device_count`, which counts by NVML also what a driver is too old for.
        count = torch._C._cuda_getDeviceCount() if torch.cuda.is_available() else 0
    said = [str(warning.message).strip().splitlines()[0] for warning in caught]
    return int(count), said[0] if said else ""


def _nothing(complaint: str) -> Unavailable:
    """Say why CUDA has no device: hidden, no driver, too old a driver, or what CUDA says."""
    import torch

    seen, needed = seen_gpus(), str(torch.version.cuda)
    if are_hidden():
        return Unavailable(f"{VISIBLE}={os.environ[VISIBLE]!r} hides every GPU", f"unset {VISIBLE}, {_CPU}")
    if seen is None:
        return Unavailable("no NVIDIA GPU is seen here", f"install NVIDIA's driver where there is one, {_CPU}")
    supported = read_nvidia().cuda
    if supported is not None and supported[0] < int(needed.partition(".")[0]):
        major = int(needed.partition(".")[0])
        row = row_of_cuda(major)
        since = f"to {row.first_driver} or newer" if row else f"to one for CUDA {needed}"
        return Unavailable(
            f"{seen.text}: the driver serves CUDA up to {supported[0]}.{supported[1]}, torch {torch.__version__} needs "
            f"{needed}",
            f"update the driver {since}, install a torch for CUDA {supported[0]}, {_CPU}",
        )
    told = complaint or "CUDA finds no device"
    return Unavailable(f"{seen.text}: {told}", f"see that its driver is loaded and this user may open it, {_CPU}")


def _missing(device: str, count: int) -> Unavailable:
    there = ", ".join(["cuda", *(f"cuda:{index}" for index in range(1, count))])
    shown = f" with {VISIBLE}={os.environ[VISIBLE]}" if VISIBLE in os.environ else ""
    return Unavailable(f"there is no {device}: CUDA has {there}{shown}", f"use one of them, {_CPU}")


def _too_old_for_torch(index: int) -> Unavailable | None:
    """Return that torch was built for newer GPUs only; None if it has kernels for this one."""
    import torch

    capability = torch.cuda.get_device_capability(index)
    # `sm_90`, `sm_100`, `compute_120`: ten times the capability.
    built = [int("".join(filter(str.isdigit, name))) for name in torch.cuda.get_arch_list()]
    if not built or 10 * capability[0] + capability[1] >= min(built):
        return None
    oldest = f"{min(built) // 10}.{min(built) % 10}"
    return Unavailable(
        f"{torch.cuda.get_device_name(index)} has compute capability {capability[0]}.{capability[1]}, torch "
        f"{torch.__version__} is built for {oldest} and newer",
        f"install a torch for older GPUs, {_CPU}",
    )


def native_on(precision: str, device: str) -> Support:
    """Say whether a GPU has arithmetic for a precision; whether a library uses it is another question."""
    least = _FIRST_CAPABILITIES.get(precision)
    if least is None:
        return Support(True)
    found, name = capability_of(device)
    if found >= least:
        return Support(True)
    text = f"{precision} needs compute capability {least[0]}.{least[1]}, {name} has {found[0]}.{found[1]}"
    return Support(False, text)


def capability_of(device: str) -> tuple[tuple[int, int], str]:
    """Return a usable GPU's compute capability, and its name."""
    import torch

    index = gpu_index(device)
    return torch.cuda.get_device_capability(index), str(torch.cuda.get_device_name(index))


def named(device: Any) -> str:
    """Return a torch device by the name that cells have for it: the first GPU is `cuda`."""
    return str(device.type) if device.type == "cpu" or not device.index else f"{device.type}:{device.index}"
