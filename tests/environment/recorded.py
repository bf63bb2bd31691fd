"""Texts as kernels write them, shortened to the lines that are read, and machines that were read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vggbench.environment.records import Activity, Environment, Hardware, NoiseFacts, System


def plant(root: Path, files: Mapping[str, str]) -> Path:
    """Write files below a folder that stands for `/`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def processor(number: int, package: int, core: int, model: str, flags: str) -> str:
    return (
        f"processor\t: {number}\nvendor_id\t: Genuine\nmodel name\t: {model}\nphysical id\t: {package}\n"
        f"core id\t\t: {core}\nfpu\t\t: yes\nflags\t\t: {flags}\nbugs\t\t: spectre_v1\n\n"
    )


# Two sockets of four cores with two threads each would be long: one core of each, threads numbered as the kernel does.
AMD_FLAGS = "fpu vme sse2 ht syscall avx avx2 f16c fma avx512f avx512_bf16 avx512_vnni rdpid"
AMD_TWO_SOCKETS = "".join(
    processor(number, package, core, "AMD EPYC 9354 32-Core Processor", AMD_FLAGS)
    for number, (package, core) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)] * 2)
)
# i5-13600K, shortened: two performance cores with two threads each, then four efficiency cores.
INTEL_FLAGS = "fpu vme ht avx f16c fma avx2 avx_vnni serialize"
INTEL_HYBRID = "".join(
    processor(number, 0, core, "13th Gen Intel(R) Core(TM) i5-13600K", INTEL_FLAGS)
    for number, core in enumerate([0, 0, 4, 4, 24, 25, 26, 27])
)
VIRTUAL = processor(0, 0, 0, "AMD EPYC", "fpu avx2 hypervisor") + processor(1, 0, 1, "AMD EPYC", "fpu avx2 hypervisor")
GRAVITON = "".join(
    f"processor\t: {number}\nBogoMIPS\t: 2100.00\nFeatures\t: fp asimd asimdhp asimddp sve i8mm bf16 svebf16\n"
    "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: 0xd40\nCPU revision\t: 1\n\n"
    for number in range(2)
)

QUIET = NoiseFacts(
    load_average_1min=0.1,
    activity=Activity(other_cpu_cores=0.02, busiest=(), steal_percent=0.0),
    governors=("performance",),
    turbo=False,
    throttled_periods=0,
    throttled_s=0.0,
    hypervisor=False,
    swap_used_bytes=0,
)
HARDWARE = Hardware(
    cpu_model="AMD EPYC",
    architecture="x86_64",
    physical_cores=4,
    logical_cores=8,
    usable_logical_cores=8,
    usable_cores=4,
    cgroup_cpu_quota=None,
    memory_total_bytes=8 << 30,
    memory_available_bytes=4 << 30,
    cgroup_memory_limit_bytes=None,
    caches={},
    cpu_flags=("avx2",),
    hybrid=False,
    gpus=(),
)
BLIND = NoiseFacts(
    load_average_1min=None,
    activity=Activity(other_cpu_cores=0.0, busiest=(), steal_percent=None),
    governors=None,
    turbo=None,
    throttled_periods=None,
    throttled_s=None,
    hypervisor=None,
    swap_used_bytes=None,
)
ENVIRONMENT = Environment(
    hardware=HARDWARE,
    system=System(os="Linux", kernel="6.1", python="3.11.7", python_implementation="CPython", driver=None),
    libraries={"torch": "2.11.0", "onnxruntime": None},
    variables={},
    commit="0123456789",
    noise=QUIET,
    noise_sources=(),
    distribution_conflicts=(),
)
