"""Ctrl-C while a network learns: heard at once, obeyed between two batches. The standard library only."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


class StopRequest:
    """Whether somebody asked for an end; a second time does not wait for the batch in hand."""

    def __init__(self) -> None:
        self.asked = False

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Keep in mind that a signal came; `KeyboardInterrupt` if one came before."""
        if self.asked:
            signal.default_int_handler(number, frame)
        self.asked = True


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Yield what hears the signals that ask for an end; one that is ignored, as under nohup, stays ignored.

    Only the main thread can hear signals; anywhere else nothing is heard.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    former = {number: signal.getsignal(number) for number in numbers}
    heard = [number for number, handler in former.items() if handler is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, request.hear)
    try:
        yield request
    finally:
        for number in heard:
            signal.signal(number, former[number] or signal.SIG_DFL)
