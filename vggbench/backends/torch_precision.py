"""torch's switches for what products are really computed in, whatever the types of their operands: set, and read back.

Imports torch inside its functions. They belong to the process, not to a network, and have defaults that differ from
device to device: cuDNN's convolutions of fp32 are tf32 unless somebody forbids it. So each one is set, also those of
devices and layers that are not used, and read again when a session says what ran. That a switch is as it should be is
for `measure.validity` to judge.
"""

from __future__ import annotations

import os
from typing import Any


def set_switches(precision: str, *, cudnn_benchmark: bool = False) -> None:
    """Let fp32 be fp32, products of short types be summed in fp32, and tf32 be allowed where it is asked for.

    How cuDNN finds its algorithms changes no precision, and is the process's likewise.
    """
    import torch

    tf32 = precision == "tf32"
    # The older names first: they set the newer ones, too, and torch will not export or compile where the two differ.
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    for operation in _cuda().values():
        operation.fp32_precision = "tf32" if tf32 else "ieee"
    for operation in _onednn().values():
        operation.fp32_precision = "ieee"  # no CPU's products are tf32 here
    products: Any = torch.backends.cuda.matmul  # torch's stubs do not know that these can be set
    products.allow_fp16_reduced_precision_reduction = False
    products.allow_bf16_reduced_precision_reduction = False
    products.allow_fp16_accumulation = False
    torch.backends.cudnn.benchmark = cudnn_benchmark


def read_switches() -> dict[str, str]:
    """Return every switch by a name of ours."""
    import torch

    products = torch.backends.cuda.matmul
    return {
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        **{f"{name}_fp32_precision": str(operation.fp32_precision) for name, operation in _onednn().items()},
        **{f"cuda_{name}_fp32_precision": str(operation.fp32_precision) for name, operation in _cuda().items()},
        "cuda_fp16_reduction": str(products.allow_fp16_reduced_precision_reduction),
        "cuda_bf16_reduction": str(products.allow_bf16_reduced_precision_reduction),
        "cuda_fp16_accumulation": str(products.allow_fp16_accumulation),
        "cudnn_benchmark": "on" if torch.backends.cudnn.benchmark else "off",
        "nvidia_tf32_override": os.environ.get("NVIDIA_TF32_OVERRIDE", ""),
        "onednn_fpmath_mode": onednn_fpmath_mode(),
        "mkldnn": str(torch.backends.mkldnn.enabled),
    }


def fp32_means(device_type: str, convolution: bool) -> str:
    """Return what a product of fp32 operands is computed in on a device, by the switches as they are now."""
    if device_type != "cuda":
        return "fp32"
    return "tf32" if _cuda()["conv" if convolution else "matmul"].fp32_precision == "tf32" else "fp32"


def onednn_fpmath_mode() -> str:
    """Return what the environment lets oneDNN compute fp32 in, under whichever of its two names; '' if not set."""
    modes = (os.environ.get(f"{library}_DEFAULT_FPMATH_MODE", "") for library in ("ONEDNN", "DNNL"))
    return next((mode for mode in modes if mode), "")


def _onednn() -> dict[str, Any]:
    """Return torch's objects with oneDNN's switches: `ieee`, `tf32`, `bf16`; `none` is not set."""
    import torch

    backend: Any = torch.backends.mkldnn  # torch puts these in place of the module when it is imported
    return {"matmul": backend.matmul, "conv": backend.conv, "rnn": backend.rnn}


def _cuda() -> dict[str, Any]:
    """Return torch's objects with the switches of CUDA's libraries: `ieee`, `tf32`, or `none`: tf32 to cuDNN."""
    import torch

    cudnn: Any = torch.backends.cudnn
    return {"matmul": torch.backends.cuda.matmul, "conv": cudnn.conv, "rnn": cudnn.rnn}
