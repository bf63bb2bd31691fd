"""Says what a Python environment has, in the environment itself: run there as a program, from its source text.

The standard library only, nothing of vggbench, and no syntax that an old Python does not read: it is to be told which.
"""

from __future__ import annotations

import json
import site
import sys
from importlib import metadata, util


def inspect(needed: list[str]) -> dict[str, object]:
    """Return the Python's version and place, its distributions, and which of the needed modules it lacks."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:  # one that was half removed has none
            found.setdefault(name.lower().replace("_", "-"), distribution.version)
    return {
        "version": list(sys.version_info[:3]),
        "prefix": sys.prefix,
        "folders": _folders(),
        "distributions": found,
        "lacking": [name for name in needed if util.find_spec(name) is None],
    }


def _folders() -> list[str]:
    """Return the folders that distributions are installed in, the first found first."""
    return site.getsitepackages() + ([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])


if __name__ == "__main__":
    print(json.dumps(inspect(sys.argv[1:])))
