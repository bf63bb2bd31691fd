"""The environment as it is stored with a run: one reading of everything.

Standard library, and psutil inside functions.
"""

from __future__ import annotations

import platform
from pathlib import Path

from vggbench.environment import cpu, gpus, judgement, noise, software
from vggbench.environment.cgroup import read_limits
from vggbench.environment.records import Environment, Hardware, NoiseSource, System

ROOT = Path("/")


def collect() -> Environment:
    """Read hardware, software and noise; takes about half a second, most of it watching other processes."""
    hardware = read_hardware()
    facts = noise.read_facts()
    return Environment(
        hardware=hardware,
        system=read_system(),
        libraries=software.library_versions(),
        variables=software.library_variables(),
        commit=software.source_commit(),
        noise=facts,
        noise_sources=tuple(judgement.judge(facts, hardware)),
        distribution_conflicts=tuple(software.distribution_conflicts()),
    )


def noise_sources() -> list[NoiseSource]:
    """Return what disturbs timings here and now, gravest first; watches other processes for 0.3 s."""
    return judgement.judge(noise.read_facts(), read_hardware())


def device_name(device: str) -> str:
    """Return the model name of `cpu`, `cuda` or `cuda:1`; '' for a device this system does not list."""
    found = gpus.canonical_device(device)
    if found == "cpu":
        return cpu.cpu_model()
    return gpus.gpu_name(found) if found else ""


def read_hardware(root: Path = ROOT) -> Hardware:
    """Read the hardware; `root` is `/` but in tests."""
    import psutil

    memory = psutil.virtual_memory()
    limits = read_limits(root)
    cpus = cpu.affinity()
    physical, logical = cpu.core_counts()
    return Hardware(
        cpu_model=cpu.cpu_model(root),
        architecture=platform.machine(),
        physical_cores=physical,
        logical_cores=logical,
        usable_logical_cores=len(cpus),
        usable_cores=cpu.default_threads(root),
        cgroup_cpu_quota=limits.cpu_quota,
        memory_total_bytes=memory.total,
        memory_available_bytes=memory.available,
        cgroup_memory_limit_bytes=limits.memory_bytes,
        caches=cpu.caches(min(cpus), root),
        cpu_flags=cpu.precision_flags(root),
        hybrid=cpu.is_hybrid(cpus, root),
        gpus=software.gpu_names(root),
    )


def read_system(root: Path = ROOT) -> System:
    """Read operating system, Python and driver."""
    return System(
        os=platform.system(),
        kernel=platform.release(),
        python=platform.python_version(),
        python_implementation=platform.python_implementation(),
        driver=software.driver_version(root),
    )
