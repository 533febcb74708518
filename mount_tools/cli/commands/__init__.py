"""One module per command of `pyunion`."""
