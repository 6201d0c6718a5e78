"""Checks of how Django connects to the queue databases. They open no connection."""

from __future__ import annotations

from typing import Any

from django.core.checks import Error, Warning
from django.db import connections

from dj_queue.checks.connections import is_mysql, is_postgresql, options_of
from dj_queue.checks.routing import Found, fault, healthy_routes, known_databases
from dj_queue.engines.notifications import hears_notifications


def check_autocommit(**_: object) -> Found:
    """E014: connections that commit nothing by themselves."""
    read_from = {options_of(each).read_database_alias for each in healthy_routes()}
    for alias in dict.fromkeys([*known_databases(), *sorted(filter(None, read_from))]):
        if alias not in connections.databases:
            continue
        got = connections[alias].settings_dict.get("AUTOCOMMIT", True)
        if not got:
            yield fault(
                Error,
                "E014",
                f"expected DATABASES[{alias!r}]['AUTOCOMMIT'] to be True for a queue database, "
                f"got {got!r}: nobody commits what dj_queue writes, so jobs vanish or run twice",
                "Leave it out, and use transaction.atomic(using=...) where writes belong together.",
            )


def check_mysql_drivers(**_: object) -> Found:
    """E015: another driver for MySQL and MariaDB than mysqlclient."""
    for alias in known_databases():
        if not is_mysql(alias):
            continue
        driver = driver_of(alias)
        if driver.__name__.partition(".")[0] != "MySQLdb":
            yield fault(
                Error,
                "E015",
                f"expected the driver of DATABASES[{alias!r}] to be mysqlclient, got "
                f"{driver.__name__}: several statements in one round trip are errors of SQL there",
                "Install mysqlclient (`dj_queue[mysql]`), and remove install_as_MySQLdb().",
            )


def check_postgresql_drivers(**_: object) -> Found:
    """W011: a driver for PostgreSQL with which workers cannot listen."""
    told: dict[str, list[str]] = {}
    for each in healthy_routes():
        options = options_of(each)
        alias = options.listen_database_alias or each.alias
        if options.listen_notify and is_postgresql(alias) and is_postgresql(each.alias):
            told.setdefault(alias, []).append(
                f"TASKS[{each.backend!r}]['OPTIONS']['listen_notify']"
            )
    for alias, settings in told.items():
        driver = driver_of(alias)
        if not hears_notifications(driver):
            # Without what it was built with.
            version = driver.__version__.partition(" ")[0]
            yield fault(
                Warning,
                "W011",
                f"expected psycopg 3.2 or later as the driver of queue database {alias!r}, got "
                f"{driver.__name__} {version}: workers cannot listen with it, they poll",
                f"Install it (`dj_queue[postgres]`), or set {' and '.join(settings)} to False.",
            )


def driver_of(alias: str) -> Any:
    """Return the module that Django has imported as the alias's driver."""
    connection: Any = connections[alias]
    return connection.Database
