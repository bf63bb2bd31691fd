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
    "onnxruntime-tensorrt": "vggbench.backends.onnxruntime_tensorrt",
    "openvino": "vggbench.backends.openvino",
    "onnx-reference": "vggbench.backends.onnx_reference",
    "fake": "vggbench.backends.fake",
    "null": "vggbench.backends.null",
}
BACKENDS = tuple(_MODULES)
REAL_BACKENDS = ("torch", "torch-compile", "onnxruntime", "onnxruntime-tensorrt", "openvino", "onnx-reference")
ORACLES = ("onnx-reference",)  # real backends whose times say nothing: they are there to be right
# What is measured where none is named, by the kind of device: on a CPU those that open in a few seconds.
_DEFAULT_BACKENDS = {
    "cpu": ("torch", "onnxruntime", "openvino"),
    "cuda": ("torch", "torch-compile", "onnxruntime", "tensorrt", "tensorrt-rtx"),
}


def default_backends(device: str) -> tuple[str, ...]:
    """Return the backends that are measured on a device where none is named."""
    kind = device.partition(":")[0]
    return tuple(name for name in _DEFAULT_BACKENDS.get(kind, ()) if name in _MODULES)


def runs_on(name: str, device: str) -> bool:
    """Say whether a backend is for that kind of device at all; a backend that does not say is for the CPU."""
    return device.partition(":")[0] in getattr(find_backend(name), "devices", ("cpu",))


def find_backend(name: str) -> Backend:
    """Return the backend of that name; `RequestError` with the nearest names if there is none."""
    if name not in _MODULES:
        near = difflib.get_close_matches(name, REAL_BACKENDS) or REAL_BACKENDS
        raise RequestError(f"unknown backend {name!r}; did you mean {' or '.join(near)}?")
    return cast("Backend", import_module(_MODULES[name]).BACKEND)


def check_options(backend: Backend, options: dict[str, str], device: str = "cpu") -> dict[str, str]:
    """Return the options with every default filled in, sorted; `RequestError` for one that is not known there.

    A backend's `cuda_options` are those, or their values, that mean something on a CUDA device alone.
    """
    for name, values in getattr(backend, "cuda_options", {}).items():
        if device == "cpu" and name in options and (not values or options[name] in values):
            raise RequestError(
                f"option {name}={options[name]} of {backend.name} is for a CUDA device; use --device cuda"
            )
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
