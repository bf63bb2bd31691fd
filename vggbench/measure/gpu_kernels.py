"""The kernels of the ceilings on a CUDA device: the same products and copy, large enough to fill one. Through torch.

Imports torch inside its functions; operands are random, and made on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vggbench.backends import cuda_slots
from vggbench.backends.torch_precision import set_switches

GEMM_SIDE = 8192  # 1.1 TFLOPs: 1 to 2 ms of the fastest GPUs in fp16, beside which waiting for the end is nothing
IMAGES, CHANNELS, SIDE = 64, 256, 56  # VGG's third block at 224 pixels: 0.24 TFLOPs
COPY_BYTES = 2 << 30  # many times the largest caches
PRECISIONS = ("fp32", "tf32", "fp16", "bf16")


def gpu_kernel(kernel: str, precision: str, device: str) -> tuple[Callable[[], Any], float]:
    """Return a call that runs the kernel to its end, and its work: FLOPs, or bytes read and written."""
    import torch

    place = cuda_slots.torch_device(device)
    if kernel == "copy":
        source = torch.randn(COPY_BYTES // 4, device=place)
        return _to_its_end(torch.empty_like(source).copy_, source), 2.0 * COPY_BYTES
    set_switches(precision)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
    if kernel == "gemm":
        square = torch.randn(2, GEMM_SIDE, GEMM_SIDE, device=place).to(dtype)
        return _to_its_end(torch.matmul, *square), 2.0 * GEMM_SIDE**3
    # Channels last is what tensor cores read.
    data = torch.randn(IMAGES, CHANNELS, SIDE, SIDE, device=place).to(dtype).to(memory_format=torch.channels_last)
    weights = torch.randn(CHANNELS, CHANNELS, 3, 3, device=place).to(dtype).to(memory_format=torch.channels_last)
    flops = 2.0 * IMAGES * CHANNELS**2 * 9 * SIDE**2
    return _to_its_end(lambda: torch.nn.functional.conv2d(data, weights, padding=1)), flops


def _to_its_end(call: Callable[..., Any], *operands: Any) -> Callable[[], Any]:
    import torch

    def run() -> Any:
        with torch.inference_mode():
            result = call(*operands)
        torch.cuda.current_stream(result.device).synchronize()
        return result

    return run
