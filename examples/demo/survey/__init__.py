"""The demo's app: measures the source files of a Python library, one job for each."""
