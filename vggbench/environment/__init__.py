"""The machine a figure was measured on: hardware, software, and what disturbs timings; and whether two are alike.

Standard library, and psutil inside functions; no torch and no backend, so that it can be asked everywhere.
"""

from vggbench.environment.comparison import comparable
from vggbench.environment.cpu import default_threads
from vggbench.environment.judgement import unreadable
from vggbench.environment.reading import collect, device_name, noise_sources
from vggbench.environment.records import Activity, Environment, Hardware, NoiseFacts, NoiseSource, System
from vggbench.environment.software import distribution_conflicts

__all__ = [
    "Activity",
    "Environment",
    "Hardware",
    "NoiseFacts",
    "NoiseSource",
    "System",
    "collect",
    "comparable",
    "default_threads",
    "device_name",
    "distribution_conflicts",
    "noise_sources",
    "unreadable",
]
