"""A database-backed task queue for Django's Tasks, on databases of its own."""

__version__ = "0.1.0"
