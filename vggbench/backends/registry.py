"""The backends by name. Imports no backend's library, and no backend's module before it is asked for."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import cast

from vggbench.backends.base import Backend
from vggbench.errors import RequestError

# In the order in which tables without a measurement show them; the last two are for tests of the harness itself.
_MODULES = {
    "torch": "vggbench.backends.torch_eager",
    "torch-compile": "vggbench.backends.torch_compile",
    "onnxruntime": "vggbench.backends.onnxruntime",
    "openvino": "vggbench.backends.openvino",
    "onnx-reference": "vggbench.backends.onnx_reference",
    "fake": "vggbench.backends.fake",
    "null": "vggbench.backends.null",
}
BACKENDS = tuple(_MODULES)
REAL_BACKENDS = ("torch", "torch-compile", "onnxruntime", "openvino", "onnx-reference")
ORACLES = ("onnx-reference",)  # real backends whose times say nothing: they are there to be right
# What is measured where none is named: those that open in a few seconds. Compiling takes each process longer.
DEFAULT_BACKENDS = ("torch", "onnxruntime", "openvino")


def find_backend(name: str) -> Backend:
    """Return the backend of that name; `RequestError` with the nearest names if there is none."""
    if name not in _MODULES:
        near = difflib.get_close_matches(name, REAL_BACKENDS) or REAL_BACKENDS
        raise RequestError(f"unknown backend {name!r}; did you mean {' or '.join(near)}?")
    return cast("Backend", import_module(_MODULES[name]).BACKEND)


def check_options(backend: Backend, options: dict[str, str]) -> dict[str, str]:
    """Return the options with every default filled in, sorted; `RequestError` for one the backend does not know."""
    known = backend.option_values
    for name, value in options.items():
        if name not in known:
            names = ", ".join(known) or "none"
            raise RequestError(f"backend {backend.name} has no option {name!r}; it knows: {names}")
        values = known[name]
        if values and value not in values:
            choices = ", ".join(filter(None, values))
            raise RequestError(f"option {name} of {backend.name} is {value!r}; it can be {choices}")
    defaults = {name: values[0] for name, values in known.items() if values and values[0]}
    return dict(sorted({**defaults, **options}.items()))
