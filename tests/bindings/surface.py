"""Import one TensorRT's bindings, over stubs of their libraries, and print what they have as JSON.

Run in a process of its own: `python surface.py MODULE FOLDER LIBRARY...`. Two of them in one process share types.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import re
import sys
from typing import Any

_SIGNATURE = re.compile(r"^(?:\d+\. )?(\w+)(\(.*\)) -> (.+)$")


def signatures(doc: str | None) -> list[tuple[str, str]]:
    """Return (parameters, result) of every overload that a docstring of pybind11 begins with."""
    found = [_SIGNATURE.match(line) for line in (doc or "").splitlines()]
    return [(one[2], one[3]) for one in found if one and one[2] != "(*args, **kwargs)"]


def describe(kind: type) -> dict[str, Any]:
    members = {name: getattr(kind, name) for name in dir(kind) if not name.startswith("__") or name == "__init__"}
    return {
        "methods": {name: signatures(each.__doc__) for name, each in members.items() if callable(each)},
        "settable": {name: each.fset is not None for name, each in members.items() if isinstance(each, property)},
        "types": {
            name: (each.fget.__doc__ or "").strip().rpartition(" -> ")[2]
            for name, each in members.items()
            if isinstance(each, property)
        },
    }


def main() -> None:
    module, folder, *libraries = sys.argv[1:]
    for library in libraries:
        ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
    sys.path.insert(0, folder)
    trt = importlib.import_module(module)
    kinds = {name: each for name in dir(trt) if isinstance(each := getattr(trt, name), type)}
    enums = {name: kind for name, kind in kinds.items() if hasattr(kind, "__members__")}
    found = {
        "version": trt.__version__,
        "enums": {name: {key: int(value) for key, value in kind.__members__.items()} for name, kind in enums.items()},
        "classes": {name: describe(kind) for name, kind in kinds.items() if name not in enums},
        "builders": made_by(trt),
    }
    print(json.dumps(found))


def made_by(trt: Any) -> str:
    """Return what the bindings say where the library makes no builder; empty where it makes one."""

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            pass

    try:
        trt.Builder(Log())
    except TypeError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main()
