"""Checks of the queue databases' settings: what DATABASES says of each. They open no connection."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from django.core.checks import CheckMessage, Warning
from django.db import connections

from dj_queue.checks.routing import Found, fault, known_databases
from dj_queue.exceptions import InvalidOption
from dj_queue.routers.registry import backends_on, databases, physical, route

READ_COMMITTED = "read committed"
LEAST_TIMEOUT_SECONDS = 5
WAL_IN_HEADER = b"\x02\x02"


def check_physical_databases(**_: Any) -> Found:
    """W001: two aliases for one server database, one of them a queue database."""
    seen: dict[Any, str] = {}
    for alias in sorted(connections, key=lambda each: each not in databases()):
        place = physical(alias)
        first = seen.setdefault(place, alias)
        if first != alias and {first, alias} & set(databases()):
            yield fault(
                Warning,
                "W001",
                f"expected each alias to be a database of its own, got {first!r} and {alias!r} "
                f"both on {place}: they share no transaction and can block each other",
                "Use one alias for both, or give the queue a database of its own.",
            )


def check_isolation(**_: Any) -> Found:
    """W002: MySQL or MariaDB with another isolation level than READ COMMITTED."""
    for alias in known_databases():
        if physical(alias).vendor != "mysql":
            continue
        level = connections[alias].settings_dict["OPTIONS"].get("isolation_level", READ_COMMITTED)
        if str(level).lower() != READ_COMMITTED:
            yield fault(
                Warning,
                "W002",
                f"expected DATABASES[{alias!r}]['OPTIONS']['isolation_level'] to be "
                f"'read committed', got {level!r}: claims would lock gaps and block enqueues",
                "Set it, or leave it out: 'read committed' is Django's default.",
            )


def check_sqlite(**_: Any) -> Found:
    """W003: SQLite without IMMEDIATE transactions, WAL or patience."""
    for alias in known_databases():
        if physical(alias).vendor != "sqlite":
            continue
        options = connections[alias].settings_dict["OPTIONS"]
        path = f"DATABASES[{alias!r}]['OPTIONS']"
        if str(options.get("transaction_mode")).upper() not in ("IMMEDIATE", "EXCLUSIVE"):
            got = options.get("transaction_mode")
            yield sqlite_fault(f"{path}['transaction_mode'] to be 'IMMEDIATE', got {got!r}")
        if (got := options.get("timeout", LEAST_TIMEOUT_SECONDS)) < LEAST_TIMEOUT_SECONDS:
            yield sqlite_fault(f"{path}['timeout'] to be 5 seconds or more, got {got!r}")
        if not uses_wal(alias):
            got = options.get("init_command")
            yield sqlite_fault(f"{path}['init_command'] to set journal_mode=WAL, got {got!r}")


def check_atomic_requests(**_: Any) -> Found:
    """W004: ATOMIC_REQUESTS holds a queue transaction open for a whole request."""
    for alias in known_databases():
        if connections[alias].settings_dict.get("ATOMIC_REQUESTS"):
            yield fault(
                Warning,
                "W004",
                f"expected DATABASES[{alias!r}]['ATOMIC_REQUESTS'] to be False for a queue "
                "database, got True: jobs wait for the end of the request, and are lost with it",
                "Leave it out, or use transaction.atomic(using=...) where you mean it.",
            )


def check_pools(**_: Any) -> Found:
    """W005: a connection pool with fewer connections than one worker process needs."""
    for alias in known_databases():
        pool = connections[alias].settings_dict["OPTIONS"].get("pool")
        if not pool:
            continue
        sizes = pool if isinstance(pool, dict) else {}
        size = sizes.get("max_size") or sizes.get("min_size", 4)
        needed = sum(connections_needed(backend) for backend in backends_on(alias))
        if size < needed:
            yield fault(
                Warning,
                "W005",
                f"expected DATABASES[{alias!r}]['OPTIONS']['pool'] to have a max_size of "
                f"{needed} or more, got {size}: a worker process has that many threads on it",
                "Raise max_size, or lower threads.",
            )


def sqlite_fault(expectation: str) -> CheckMessage:
    """Build a W003."""
    remedy = (
        'Set transaction_mode "IMMEDIATE", timeout 20 and init_command "PRAGMA journal_mode=WAL".'
    )
    return fault(Warning, "W003", f"expected {expectation}", remedy)


def uses_wal(alias: str) -> bool:
    """Tell from the settings, or the file's header, whether a SQLite database is in WAL mode."""
    connection: Any = connections[alias]
    command = str(connection.settings_dict["OPTIONS"].get("init_command") or "")
    # In memory there is no journal to choose.
    if "wal" in command.lower() or connection.is_in_memory_db():
        return True
    try:
        return os.pread(kept_open(physical(alias).name), 2, 18) == WAL_IN_HEADER
    except OSError:
        return False


@cache
def kept_open(path: str) -> int:
    """Open a database file for good: closing it would drop SQLite's POSIX locks on it, in us."""
    return os.open(path, os.O_RDONLY)


def connections_needed(backend: str) -> int:
    """Count a worker process's threads that may hold a connection to the queue database."""
    try:
        workers = route(backend).options.workers
    except InvalidOption:
        return 0
    return sum(each.threads + 1 for each in workers) + 2
