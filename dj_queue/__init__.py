"""A database-backed task queue for Django's Tasks, on databases of its own."""

__version__ = "0.1.0"

DOCUMENTATION = "https://dj-queue.example/"
"""Where the pages are that hints name; a reserved name until they are published somewhere."""
