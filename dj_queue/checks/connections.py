"""Checks of the queue databases' settings: what DATABASES says of each. They open no connection."""

from __future__ import annotations

import os
import re
from functools import cache
from typing import Any

from django.core.checks import CheckMessage, Error, Warning
from django.db import connections

from dj_queue.checks.routing import Found, fault, healthy_routes, known_databases
from dj_queue.conf import BackendOptions
from dj_queue.exceptions import InvalidOption
from dj_queue.routers.registry import backends_on, databases, physical, route

READ_COMMITTED = "read committed"
LEAST_TIMEOUT_SECONDS = 5
WAL_IN_HEADER = b"\x02\x02"
# PgBouncer's, and Supabase's for transactions.
POOLER_PORTS = {"6432", "6543"}
POOLER_NAMES = re.compile(r"(?<![a-z])(pgbouncer|pgcat|supavisor|pooler)(?![a-z])")


def check_physical_databases(**_: Any) -> Found:
    """W001: two aliases for one server database, one of them a queue database."""
    seen: dict[Any, str] = {}
    for alias in sorted(connections, key=lambda each: each not in databases()):
        place = physical(alias)
        first = seen.setdefault(place, alias)
        is_meant = first == alias or belong_together(first, alias)
        if not is_meant and {first, alias} & set(databases()):
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


def check_listening_aliases(**_: Any) -> Found:
    """E009: a listening alias that DATABASES lacks, or that is not PostgreSQL."""
    for each, alias in listening():
        if alias not in connections.databases:
            names = ", ".join(map(repr, connections.databases))
            problem = f"expected an alias of DATABASES ({names}), got {alias!r}"
        elif physical(alias).vendor != "postgresql":
            vendor = physical(alias).vendor
            problem = f"expected the alias of a PostgreSQL database, got {alias!r} on {vendor}"
        else:
            continue
        remedy = "Correct it, or leave it out."
        yield fault(Error, "E009", f"{listening_path(each.backend)}: {problem}", remedy)


def check_reading_aliases(**_: Any) -> Found:
    """E013: an alias to read from that DATABASES lacks, or of another vendor or database."""
    for each in healthy_routes():
        alias = options_of(each).read_database_alias
        if alias is None:
            continue
        path = f"TASKS[{each.backend!r}]['OPTIONS']['read_database_alias']"
        if alias not in connections.databases:
            names = ", ".join(map(repr, connections.databases))
            problem = f"expected an alias of DATABASES ({names}), got {alias!r}"
        elif (here := physical(each.alias)).vendor != (there := physical(alias)).vendor:
            problem = f"expected a replica of {here}, got {alias!r} on {there}"
        else:
            continue
        yield fault(Error, "E013", f"{path}: {problem}", "Correct it, or leave it out.")


def check_listening_places(**_: Any) -> Found:
    """W006: a listening alias that leads to another database than the queue's."""
    for each, alias in listening():
        if not is_postgresql(alias):
            continue
        here, there = physical(each.alias), physical(alias)
        # The host may differ: that is what the alias is for. A service file may have the name.
        if here.vendor != there.vendor or (here.name and there.name and here.name != there.name):
            yield fault(
                Warning,
                "W006",
                f"{listening_path(each.backend)}: expected an alias of the queue database, "
                f"{here}, got {alias!r} on {there}: workers would hear nothing there",
                "Correct it, or leave it out.",
            )


def check_poolers(**_: Any) -> Found:
    """W007: LISTEN, or prepared statements, through what looks like a transaction pooler."""
    own = {each.backend: alias for each, alias in listening()}
    for each in healthy_routes():
        alias = own.get(each.backend, each.alias)
        is_told = options_of(each).listen_notify and is_postgresql(each.alias)
        if not is_told or not is_postgresql(alias):
            continue
        reason = pooler_reason(connections[alias].settings_dict)
        if reason:
            yield fault(
                Warning,
                "W007",
                f"{listening_path(each.backend)}: expected an alias that leads past the pooler, "
                f"because DATABASES[{alias!r}] looks like a transaction pooler ({reason}), got "
                f"{own.get(each.backend)!r}: workers would hear nothing",
                "Add an alias for the server itself, or set "
                f"TASKS[{each.backend!r}]['OPTIONS']['listen_notify'] to False.",
            )
    for alias in filter(is_postgresql, known_databases()):
        yield from prepared_through_pooler(alias)


def prepared_through_pooler(alias: str) -> Found:
    """Yield a W007 for a `prepare_threshold` that a pooler makes useless or dangerous."""
    config = connections[alias].settings_dict
    reason, got = pooler_reason(config), config["OPTIONS"].get("prepare_threshold")
    if reason is None or got is None:
        return
    what = "dj_queue prepares nothing through a pooler, so it has no effect"
    remedy = "Leave it out."
    if config["OPTIONS"].get("server_side_binding"):
        what = "Django prepares statements on connections to the server that are not its own"
        remedy = (
            "Leave it out, or server_side_binding; unless the pooler keeps prepared statements "
            "apart, as PgBouncer does from 1.21 on with max_prepared_statements above 0."
        )
    message = (
        f"DATABASES[{alias!r}]['OPTIONS']['prepare_threshold']: expected None, because "
        f"DATABASES[{alias!r}] looks like a transaction pooler ({reason}), got {got!r}: {what}"
    )
    yield fault(Warning, "W007", message, remedy)


def belong_together(first: str, second: str) -> bool:
    """Tell whether one alias is the other's to listen on or to read from: one database is meant."""
    pairs = [
        {each.alias, other}
        for each in healthy_routes()
        for other in (options_of(each).listen_database_alias, options_of(each).read_database_alias)
    ]
    return {first, second} in pairs


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
        return journal_in_header(physical(alias).name) == WAL_IN_HEADER
    except OSError:
        return False


def journal_in_header(path: str) -> bytes:
    """Read the two bytes of a SQLite file that say whether it is in WAL mode."""
    if hasattr(os, "pread"):
        return os.pread(kept_open(path), 2, 18)
    with open(path, "rb") as file:  # Windows, where a close drops no locks
        return file.read(20)[18:]


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
    # One more begins the coroutines; how many of those use this database is not known here.
    return sum(each.threads + bool(each.concurrency) + 1 for each in workers) + 2


def listening() -> list[tuple[Any, str]]:
    """Return the backends with a listening alias of their own, and that alias."""
    own = [(each, options_of(each)) for each in healthy_routes()]
    return [(each, it.listen_database_alias) for each, it in own if it.listen_database_alias]


def options_of(route: Any) -> BackendOptions:
    """Return a backend's options; wrong ones, which are E001's finding, count as the defaults."""
    try:
        return route.options
    except InvalidOption:
        return BackendOptions()


def is_postgresql(alias: str) -> bool:
    """Tell whether DATABASES has the alias, on PostgreSQL."""
    return alias in connections.databases and physical(alias).vendor == "postgresql"


def is_mysql(alias: str) -> bool:
    """Tell whether DATABASES has the alias, on MySQL or MariaDB."""
    return alias in connections.databases and physical(alias).vendor == "mysql"


def listening_path(backend: str) -> str:
    """Return the path of the setting."""
    return f"TASKS[{backend!r}]['OPTIONS']['listen_database_alias']"


def pooler_reason(config: dict[str, Any]) -> str | None:
    """Name the setting that looks like a transaction pooler's, and its value, or None.

    Not OPTIONS["pool"]: that is Django's own, and the listening connection is not from it.
    """
    host = config["HOST"] or config["OPTIONS"].get("host") or ""
    port = config["PORT"] or config["OPTIONS"].get("port") or ""
    if POOLER_NAMES.search(str(host).lower()):
        return f"HOST is {host!r}"
    if POOLER_PORTS & set(str(port).split(",")):
        return f"PORT is {port!r}"
    if config.get("DISABLE_SERVER_SIDE_CURSORS"):
        return "DISABLE_SERVER_SIDE_CURSORS is True"
    return None
