"""A pickle of numbers and nothing else: arrays, bytes, lists. Nothing that it names is looked up, let alone called.

The few names that pickled arrays refer to are given stand-ins of ours; any other ends the reading. numpy only.
"""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggbench.errors import DataError

KINDS = {"u1", "i1", "i2", "i4", "i8"}  # of arrays' elements; an object's would hold addresses
DAMAGED = (
    *(ArithmeticError, AttributeError, EOFError, ImportError, LookupError, MemoryError, OSError, RecursionError),
    *(TypeError, ValueError, pickle.UnpicklingError, struct.error),
)
LONGEST_REASON = 120  # characters of what went wrong that say enough


class _Kind:
    """Stands for `numpy.dtype`."""

    def __init__(self, name: str | bytes, *_flags: object) -> None:
        self.name = (name.decode("ascii") if isinstance(name, bytes) else name).lstrip("<|=")
        if self.name not in KINDS:
            raise pickle.UnpicklingError(f"holds an array of {self.name!r}")

    def __setstate__(self, state: tuple[object, ...]) -> None:
        if state[1] not in ("<", "|", "=", b"<", b"|", b"="):
            raise pickle.UnpicklingError(f"holds numbers in the byte order {state[1]!r}")


class _Array:
    """Stands for `numpy.ndarray`, as it is rebuilt from its state."""

    values: NDArray[np.integer] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, kind, in_columns, data = state
        self.values = _array(data, kind, shape, "F" if in_columns else "C").values


def _array(data: bytes, kind: _Kind, shape: tuple[int, ...], order: str) -> _Array:
    """Stands for numpy's function that makes an array of a buffer."""
    made = _Array()
    made.values = np.frombuffer(data, dtype=kind.name).reshape(shape, order="F" if order == "F" else "C")
    return made


def _empty(*_arguments: object) -> _Array:
    return _Array()


def _encoded(text: str, _encoding: str = "latin1") -> bytes:
    """Stands for `codecs.encode`, by which older protocols spell bytes."""
    return text.encode("latin1")


_STAND_INS = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("numpy.core.multiarray", "_reconstruct"): _empty,
    ("numpy.core.numeric", "_frombuffer"): _array,
    ("_codecs", "encode"): _encoded,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in; never what the name stands for."""
        found = _STAND_INS.get((module.replace("numpy._core", "numpy.core"), name))
        if found is None:
            raise pickle.UnpicklingError(f"names {module}.{name}")
        return found


def read_plain_pickle(path: Path) -> dict[str, Any]:
    """Return a pickled dictionary of arrays, bytes, texts, numbers and lists; `DataError` for anything else."""
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file, encoding="bytes").load()
            items = {_text(key): _plain(value) for key, value in content.items()}
    except pickle.UnpicklingError as error:
        said = str(error)[:LONGEST_REASON]
        raise DataError(f"{path} is damaged or holds more than arrays and lists, and is not opened: {said}") from None
    except DAMAGED as error:
        said = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read: {said[:LONGEST_REASON]}") from None
    return items


def _text(key: str | bytes) -> str:
    return key.decode("ascii") if isinstance(key, bytes) else key


def _plain(value: object) -> object:
    return value.values if isinstance(value, _Array) else value
