"""An observer of gates that keeps what it hears."""

from __future__ import annotations

from tests.running import Watcher


class GateWatcher(Watcher):
    def confirming(self, cells: int) -> None:
        self.heard.append(("confirming", cells))
