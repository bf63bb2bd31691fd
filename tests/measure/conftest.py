from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True)
def quick_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block collects garbage first: quick in a worker, not in a process that holds all tests."""
    monkeypatch.setattr(gc, "collect", lambda: 0)
