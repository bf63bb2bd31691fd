"""Prints what became of the mutants at the end of a test session."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show the kill rates of the session's mutants, if any were scored."""
    from tests.parity.score import SCORED, kill_rates

    if SCORED:
        terminalreporter.section("mutants killed by the parity check / mutants that change the function")
        for line in kill_rates(SCORED):
            terminalreporter.line(line)
