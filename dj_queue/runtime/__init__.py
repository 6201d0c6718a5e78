"""Processes, threads, loops and signals; no SQL."""
