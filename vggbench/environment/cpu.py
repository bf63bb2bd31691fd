"""The processor: its name, cores, caches and instruction sets, and how many cores this process may use.

Standard library, and psutil inside functions. Linux is read from /proc and /sys; elsewhere what the system tells.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vggbench.environment.cgroup import read_limits, read_text

# What decides in which precision a CPU is fast (x86 first, then Arm), in the order they are shown.
PRECISION_FLAGS = (
    *("f16c", "fma", "avx", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "svebf16", "sme"),
)
# Of these, what computes in a short type, rather than only reading it; in int8, what sums products in 32 bits, without
# a step in 16 bits that may overflow.
_ARITHMETIC_FLAGS = {
    "bf16": {"avx512_bf16", "amx_bf16", "bf16"},
    "fp16": {"avx512_fp16", "amx_fp16", "asimdhp"},
    "int8": {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"},
}


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """What `/proc/cpuinfo` says: the model's name ('' if it has none), all flags, and (package, core) by CPU."""

    model: str
    flags: frozenset[str]
    cores: Mapping[int, tuple[str, str]]


def parse_cpuinfo(text: str) -> CpuInfo:
    """Read `/proc/cpuinfo`; on Arm, which has no model name there, implementer and part stand for it."""
    cores: dict[int, tuple[str, str]] = {}
    first: dict[str, str] = {}
    for block in text.split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines())
        fields = {key.strip(): value.strip() for key, _, value in pairs}
        for key, value in fields.items():
            first.setdefault(key, value)
        if fields.get("processor", "").isdecimal():
            processor = fields["processor"]
            # Without a core id (Arm, some virtual machines) every processor counts as a core.
            cores[int(processor)] = (fields.get("physical id", "0"), fields.get("core id", f"cpu{processor}"))
    model = first.get("model name", "")
    if not model and "CPU part" in first:
        model = f"Arm implementer {first.get('CPU implementer', '?')} part {first['CPU part']}"
    flags = first.get("flags", first.get("Features", ""))
    return CpuInfo(model, frozenset(flags.split()), cores)


def parse_cpu_list(text: str) -> frozenset[int]:
    """Return the CPUs of a kernel list such as `0-3,8`; what is not one is passed over."""
    cpus: set[int] = set()
    for item in text.strip().split(","):
        low, _, high = item.partition("-")
        if low.isdecimal() and (high or low).isdecimal():
            cpus.update(range(int(low), int(high or low) + 1))
    return frozenset(cpus)


def affinity() -> frozenset[int]:
    """Return the CPUs this process may run on; all of them where the system has no mask."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def usable_physical_cores(cpus: frozenset[int], root: Path) -> int:
    """Count the physical cores that have a CPU in `cpus`."""
    cores = physical_cores(cpus, root)
    return len(set(cores.values())) if cores else min(len(cpus), _count(logical=False) or len(cpus))


def physical_cores(cpus: frozenset[int], root: Path = Path("/")) -> dict[int, frozenset[int]]:
    """Return for each CPU all hardware threads of its core; empty where the system does not tell."""
    folders = {cpu: _topology(cpu, root) for cpu in cpus}
    siblings = {
        cpu: parse_cpu_list(read_text(folder / "core_cpus_list") or read_text(folder / "thread_siblings_list"))
        for cpu, folder in folders.items()
    }
    if all(siblings.values()):
        return siblings
    cores = parse_cpuinfo(read_text(root / "proc/cpuinfo")).cores
    if not cpus <= cores.keys():
        return {}
    return {cpu: frozenset(other for other, core in cores.items() if core == cores[cpu]) for cpu in cpus}


def choose_cpus(allowed: frozenset[int], threads: int, root: Path = Path("/")) -> tuple[int, ...]:
    """Return the CPUs for so many threads: cores of one package first, second hardware threads of a core last.

    Where there is a choice, the core of CPU 0 comes last in its package: most interrupts are served there.
    """
    cores = physical_cores(allowed, root)
    package = {cpu: read_text(_topology(cpu, root) / "physical_package_id").strip() for cpu in allowed}
    size = Counter(package.values())

    def rank(cpu: int) -> tuple[int, int, str, bool, int]:
        core = cores.get(cpu, frozenset({cpu}))
        return sum(other in allowed for other in core if other < cpu), -size[package[cpu]], package[cpu], 0 in core, cpu

    return tuple(sorted(sorted(allowed, key=rank)[:threads]))


def _topology(cpu: int, root: Path) -> Path:
    return root / f"sys/devices/system/cpu/cpu{cpu}/topology"


def default_threads(root: Path = Path("/")) -> int:
    """Return the number of physical cores this process may use, and at least 1.

    A cgroup's CPU quota caps it, rounded down: more threads than granted cores take turns being throttled.
    """
    cores = usable_physical_cores(affinity(), root)
    quota = read_limits(root).cpu_quota
    return max(1, cores if quota is None else min(cores, int(quota)))


def core_counts() -> tuple[int | None, int | None]:
    """Return the machine's physical and logical cores."""
    return _count(logical=False), _count(logical=True)


def _count(*, logical: bool) -> int | None:
    import psutil

    return psutil.cpu_count(logical=logical)


def cpu_model(root: Path = Path("/")) -> str:
    """Return the processor's name; where the system has none, what it calls its kind."""
    named = parse_cpuinfo(read_text(root / "proc/cpuinfo")).model
    return named or _macos_model() or platform.processor() or platform.machine() or "unknown CPU"


def _macos_model() -> str:
    if platform.system() != "Darwin":
        return ""
    try:
        answer = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip()


def precision_flags(root: Path = Path("/")) -> tuple[str, ...] | None:
    """Return those of `PRECISION_FLAGS` that the processor has; None where the system does not list them."""
    flags = parse_cpuinfo(read_text(root / "proc/cpuinfo")).flags
    return tuple(flag for flag in PRECISION_FLAGS if flag in flags) if flags else None


def has_arithmetic(precision: str, root: Path = Path("/")) -> bool:
    """Say whether the processor itself computes in fp16, bf16 or int8; libraries say yes where they only emulate it.

    True where the system does not list what the processor has.
    """
    flags = precision_flags(root)
    return flags is None or not _ARITHMETIC_FLAGS[precision].isdisjoint(flags)


def is_virtual(root: Path = Path("/")) -> bool | None:
    """Say whether a hypervisor is below; None where that cannot be told (x86 Linux can)."""
    flags = parse_cpuinfo(read_text(root / "proc/cpuinfo")).flags
    if "hypervisor" in flags or (root / "sys/hypervisor/type").exists():
        return True
    return False if "fpu" in flags else None


def is_hybrid(cpus: frozenset[int], root: Path = Path("/")) -> bool | None:
    """Say whether `cpus` are of different speeds by design; None where the system does not tell."""
    devices = root / "sys/devices"
    kinds = [parse_cpu_list(read_text(devices / kind / "cpus")) for kind in ("cpu_core", "cpu_atom", "cpu_lowpower")]
    if any(kinds):
        return sum(bool(kind & cpus) for kind in kinds) > 1
    capacities = {read_text(devices / f"system/cpu/cpu{cpu}/cpu_capacity").strip() for cpu in cpus} - {""}
    if capacities:
        return len(capacities) > 1
    return False if (devices / "system/cpu").is_dir() else None


def caches(cpu: int, root: Path = Path("/")) -> dict[str, int]:
    """Return the bytes of each data cache that a CPU sees, by name; empty where the system does not tell."""
    sizes = {}
    for folder in sorted((root / f"sys/devices/system/cpu/cpu{cpu}/cache").glob("index*")):
        level, kind, size = (read_text(folder / name).strip() for name in ("level", "type", "size"))
        if kind in ("Data", "Unified") and size.endswith("K") and size[:-1].isdecimal():
            sizes[f"L{level}{'d' if kind == 'Data' else ''}"] = int(size[:-1]) * 1024
    return sizes
