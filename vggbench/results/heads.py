"""Reads the head of a stored run or gate, and lines of its journal; what is wrong is one line. No torch, no pandas."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from vggbench.errors import RequestError, RunFolderError
from vggbench.results.numbers import check_numbers

REMEDY = "restore the file or start a new run folder"

Stored = TypeVar("Stored")


def read_head(path: Path, adapter: TypeAdapter[Stored], *, what: str, schema: int, numbers: Iterable[str]) -> Stored:
    """Return the head in a file; `RunFolderError` says why it is none.

    `what` it is the head of, as in `holds no run`; `numbers` are the keys under which all numbers are measured ones.
    """
    text, data = _read_json(path, what)
    found = data.get("schema_version") if isinstance(data, dict) else None
    if found != schema:
        raise RunFolderError(f"{path} has schema version {found!r}, this vggbench reads {schema}")
    try:
        head = adapter.validate_json(text, strict=True)
        check_numbers({name: data[name] for name in numbers})
    except ValidationError as error:
        raise RunFolderError(f"{path}: {_complaint(error)}") from None
    except RequestError as error:
        raise RunFolderError(f"{path}: the plan in it cannot be read: {error}") from None
    except ValueError as error:
        raise RunFolderError(f"{path}: {error}") from None
    return head


def read_line(path: Path, number: int, line: bytes, adapter: TypeAdapter[Stored], what: str) -> Stored:
    """Return a journal's line as a record; `RunFolderError` says why it is none. `what` as in `a round's record`."""
    try:
        record = adapter.validate_json(line, strict=True)
        check_numbers(json.loads(line))
    except ValidationError as error:
        wrong = _complaint(error, "line")
    except ValueError as error:
        wrong = str(error)
    else:
        return record
    raise RunFolderError(f"{path}, line {number}: not {what} ({wrong}); {REMEDY}")


def _read_json(path: Path, what: str) -> tuple[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, json.loads(text)
    except FileNotFoundError:
        raise RunFolderError(f"{path.parent} holds no {what}: {path.name} is missing") from None
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} is not JSON: {error}") from None


def _complaint(error: ValidationError, whole: str = "") -> str:
    """Return the key of the first thing that is wrong, and what was expected there."""
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc']) or whole}: {first['msg']}"
