"""A database vendor that dj_queue does not know."""

from django.db.backends.sqlite3 import base


class DatabaseWrapper(base.DatabaseWrapper):
    """SQLite in disguise."""

    vendor = "cobol"
