"""What a TensorRT says while it builds or opens engines: kept, and put into one line. The standard library only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

LAYERS = "Layers:"  # how the message begins that lists the layers of the finished engine
# What every library says on a machine without a driver, whatever it was asked.
_NOISE = re.compile(r"cudaError 35\b|CUDA driver version is insufficient|CUDA lazy loading is not enabled")
# Of a message, where in the library's source it comes from, and what is around the reason itself.
_PLACES = re.compile(
    r"^ERROR: |^IBuilder::\w+: |\w+\.cpp:\d+ In function \w+:\s*(?:\[\d+\] )?|\[[\w.]+\.cpp:\d+:[^\]]*\]\s*|"
    r"\.? In \w+ at /\S+?(?=\)|$)"
)
_WRAPPED = re.compile(r"Error Code \d+: Myelin \((?P<reason>.*)\)")


def make_log(trt: Any) -> Any:
    """Return a logger that keeps errors, warnings and the list of layers; the class is of the library's own kind."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self.layers = ""
            self._noise: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity.name in {"ERROR", "INTERNAL_ERROR"}:
                (self._noise if _NOISE.search(text) else self.errors).append(reason_of(text))
            elif severity.name == "WARNING":
                self.warnings.append(text)
            elif text.startswith(LAYERS):
                self.layers = text

        def reasons(self) -> str:
            """Say all errors; that there is no driver only where nothing else was said."""
            return "; ".join(without_repetition(self.errors or self._noise[-1:]))

    return Log()


def reason_of(text: str) -> str:
    """Return what a message of the library says without where in its source that was found."""
    said = _PLACES.sub("", text).strip()
    return _WRAPPED.sub(r"\g<reason>", said)


def without_repetition(texts: Sequence[str]) -> list[str]:
    """Return texts in their order, without those that another one has in it."""
    chosen = list(dict.fromkeys(texts))
    return [text for text in chosen if not any(text != other and text in other for other in chosen)]
