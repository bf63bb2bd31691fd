"""Agreement of a session's output with the reference: metrics, derived tolerances, verdicts.

Everything here but `reference` imports numpy at most, because workers load it beside any backend.
"""
