"""A TensorRT that takes only what its real bindings take: made of the surface that these were seen to have.

A name that they have not is an AttributeError, as with them; arguments that no overload takes are a TypeError; a
property that cannot be set cannot. What calls return is said by the test, else it is an object of the type that the
signature names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any

Answers = Mapping[str, Any]  # by `Class.member`: a value, or a function of the object and the arguments
_OWN = {"ILogger", "IProgressMonitor", "IProfiler"}  # what code derives from
_PLAIN = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "tuple": (tuple,), "list": (list,)}
# What signatures call numbers, and a class that was not known to pybind11 yet.
_OTHERWISE = {"SupportsInt": "int", "SupportsFloat": "float", "IParserError": "ParserError"}
_NAMESPACES = re.compile(r"(?:[a-z_]\w*\.|\w+::)+(?=\w)")


class _Named(IntEnum):
    """Members that are written as pybind11 writes them: `DataType.FLOAT`."""

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class CheckedModule:
    """Stands where the library's module does."""

    def __init__(self, surface: Mapping[str, Any], answers: Answers, name: str = "tensorrt") -> None:
        self.__name__ = name
        self.__version__ = surface["version"]
        self._surface = surface
        self.answers = answers
        self.calls: list[str] = []
        self._enums = {kind: _Named(kind, members) for kind, members in surface["enums"].items() if members}

    def __getattr__(self, name: str) -> Any:
        if name in self._enums:
            return self._enums[name]
        if name not in self._surface["classes"]:
            raise AttributeError(f"module {self.__name__} {self.__version__} has no {name}")
        return self.kind(name)

    def kind(self, name: str) -> type:
        """Return the class of that name: one to derive from, or one whose objects are checked."""
        members: dict[str, Any] = {"_kind": name, "_module": self}
        known = self._surface["classes"][name]
        if name in _OWN:
            return type(name, (), members)
        found = {**known["methods"], **known["settable"]}
        return type(name, (Checked,), members | {member: _Member(member) for member in found if member != "__init__"})

    def make(self, name: str) -> Any:
        return object.__new__(self.kind(name))

    def returned(self, text: str) -> Any:
        """Return something of the type that a signature names."""
        name = _plain(text)
        if name in self._enums:
            return next(iter(self._enums[name]))
        if name in self._surface["classes"]:
            return self.make(name)
        return {"int": 0, "bool": True, "str": "", "None": None}.get(name, [] if name.startswith("list") else None)

    def takes(self, text: str, value: Any) -> bool:
        """Say whether a parameter of that type takes the value, conversions that pybind11 makes included."""
        name = _plain(text)
        if name in self._enums:
            return isinstance(value, self._enums[name])
        if name == "Dims":
            return isinstance(value, tuple | list) and all(isinstance(each, int) for each in value)
        if name in self._surface["classes"]:
            return getattr(value, "_kind", None) == name
        if name in _PLAIN:
            return isinstance(value, _PLAIN[name]) and (name == "bool" or not isinstance(value, bool))
        if name == "Buffer":
            return isinstance(value, bytes) or getattr(value, "_kind", None) == "IHostMemory"
        raise AssertionError(f"no value is known to be of {text!r}")


class _Member:
    """A method or a property of a class; found on the class too, as `hasattr` asks for it there."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, checked: Checked | None, kind: type) -> Any:
        return self if checked is None else checked._get(self._name)

    def __set__(self, checked: Checked, value: Any) -> None:
        checked._set(self._name, value)


class Checked:
    """An object of one of the library's classes."""

    _kind: str
    _module: CheckedModule

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._call("__init__", arguments, named)

    @property
    def _known(self) -> Mapping[str, Any]:
        return self._module._surface["classes"][self._kind]

    def _get(self, name: str) -> Any:
        if name in self._known["methods"]:
            return lambda *arguments, **named: self._call(name, arguments, named)
        if (held := self.__dict__.get(f"={name}")) is not None:
            return held
        key = f"{self._kind}.{name}"
        answer = self._module.answers.get(key, None)
        return answer if key in self._module.answers else self._module.returned(self._known["types"][name])

    def _set(self, name: str, value: Any) -> None:
        if not self._known["settable"].get(name):
            raise AttributeError(f"{self._kind}.{name} cannot be set")
        kind = self._known["types"][name]
        if not _is_of_own(kind, value) and not self._module.takes(kind, value):
            raise TypeError(f"{self._kind}.{name} is {kind}, and takes no {value!r}")
        self._module.calls.append(f"{self._kind}.{name}=")
        self.__dict__[f"={name}"] = value

    def _call(self, name: str, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        key, overloads = f"{self._kind}.{name}", self._known["methods"][name]
        assert overloads, f"{key} has no signature"
        results = [result for text, result in overloads if _fits(self._module, text, arguments, named)]
        if not results:
            raise TypeError(f"{key} takes none of {arguments} {dict(named)}: {overloads}")
        self._module.calls.append(key)
        answer = self._module.answers.get(key)
        if isinstance(answer, Callable):
            return answer(self, *arguments, **named)
        return answer if key in self._module.answers else self._module.returned(results[0])


def _fits(module: CheckedModule, text: str, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
    """Say whether an overload takes the arguments, `self` left out."""
    parameters = [_parameter(part) for part in _parts(text[1:-1])][1:]
    given = dict(zip((name for name, _kind, _default in parameters), arguments, strict=False))
    if len(arguments) > len(parameters) or given.keys() & named.keys():
        return False
    given |= named
    needed = {name for name, _kind, default in parameters if not default}
    kinds = {name: kind for name, kind, _default in parameters}
    if not needed <= given.keys() <= kinds.keys():
        return False
    return all(_is_of_own(kinds[name], value) or module.takes(kinds[name], value) for name, value in given.items())


def _is_of_own(kind: str, value: Any) -> bool:
    """Say whether a value is of a class that code derives from."""
    return _plain(kind) in _OWN and getattr(value, "_kind", "") == _plain(kind)


def _parts(text: str) -> list[str]:
    """Return what stands between the commas outside of brackets."""
    found, depth = [""], 0
    for letter in text:
        depth += (letter in "([<{") - (letter in ")]>}")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [part.strip() for part in found if part.strip()]


def _parameter(text: str) -> tuple[str, str, bool]:
    name, _colon, rest = text.partition(":")
    kind, default, _value = rest.partition("=")
    return name.strip(), kind.strip(), bool(default)


def _plain(text: str) -> str:
    """Return a type without its namespaces, and what can become a number as that number."""
    name = _NAMESPACES.sub("", text.strip())
    return _OTHERWISE.get(name, name)
