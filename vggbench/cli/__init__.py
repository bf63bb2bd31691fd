"""One module per command: parse, validate the combination, call, exit code. Imported by nobody but `__main__`."""
