"""Build, export, verify and measure every VGG on every inference backend.

The public API; importing it loads no torch, no backend and no pandas: each function does when it is called.
"""

from vggbench.api import accuracy, build, export, predict, run, verify
from vggbench.version import VERSION

__version__ = VERSION
__all__ = ["__version__", "accuracy", "build", "export", "predict", "run", "verify"]
