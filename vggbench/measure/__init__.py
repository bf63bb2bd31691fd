"""How a session is timed: clock, stopping rules, blocks, the worker process and its client."""
