"""Benchmarks of dj_queue and its peers: `python -m benchmarks --help`. Not part of the package."""
