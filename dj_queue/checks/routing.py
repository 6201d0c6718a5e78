"""Checks of the routing settings: backends, aliases, routers, models. They open no connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning
from django.db import connections, router
from django.db.models import Model

from dj_queue import DOCUMENTATION
from dj_queue.conf import read_options
from dj_queue.exceptions import DjQueueError, InvalidOption
from dj_queue.models import Job
from dj_queue.routers import DjQueueRouter, use_backend
from dj_queue.routers.registry import (
    APPLICATION_ALIAS,
    all_tasks,
    database_for,
    databases,
    import_problem,
    physical,
    routes,
)
from dj_queue.routers.router import APP_LABEL

Found = Iterator[CheckMessage]

VENDORS = ("postgresql", "mysql", "sqlite")
LEAST_TIMEOUT_SECONDS = 5
WAL_IN_HEADER = b"\x02\x02"


def fault(kind: type[Error | Warning], number: str, message: str, remedy: str) -> CheckMessage:
    """Build a finding; its hint ends with the page that explains it."""
    page = f"{DOCUMENTATION}checks/{number}.html"
    return kind(message, hint=f"{remedy} See {page}", id=f"{APP_LABEL}.{number}")


def check_options(**_: Any) -> Found:
    """E001: an option that is unknown, of the wrong type or out of range."""
    for each in routes().values():
        try:
            read_options(each.backend, each.params)
        except InvalidOption as error:
            for line in str(error).splitlines():
                yield fault(Error, "E001", line, "Correct the setting.")


def check_neighbours(**_: Any) -> Found:
    """W008: an entry of TASKS that has no class behind its BACKEND, and so is left alone.

    A warning: it is most likely another library's, and must not stop ours.
    """
    for name, params in all_tasks().items():
        problem = import_problem(params)
        if problem:
            yield fault(
                Warning,
                "W008",
                f"expected TASKS[{name!r}]['BACKEND'] to be the path of a class, got {problem}: "
                "dj_queue leaves this backend alone",
                "Correct the path, or install what is missing. If the class is a subclass of "
                "dj_queue's, no worker runs its jobs until then.",
            )


def check_databases(**_: Any) -> Found:
    """E002: a queue database that DATABASES does not have."""
    for each in routes().values():
        try:
            database_for(each.backend)
        except InvalidOption as error:
            yield fault(Error, "E002", str(error), "Add the alias to DATABASES, or correct it.")


def check_router(**_: Any) -> Found:
    """E003: queue databases beside the default one, but no router that leads there."""
    apart = [alias for alias in known_databases() if alias != "default"]
    if apart and not any(isinstance(each, DjQueueRouter) for each in router.routers):
        yield fault(
            Error,
            "E003",
            "expected DATABASE_ROUTERS to have dj_queue's router, because queue databases "
            f"({', '.join(map(repr, apart))}) are not 'default', got "
            f"{', '.join(map(path_of, router.routers)) or 'none'}",
            'Put "dj_queue.routers.DjQueueRouter" first in DATABASE_ROUTERS.',
        )


def check_who_answers(**_: Any) -> Found:
    """E004: another router answers for queue models before dj_queue's, and differently."""
    for each in healthy_routes():
        for action in ("db_for_read", "db_for_write"):
            name, answer = who_answers(each.backend, action)
            if name and answer != each.alias:
                yield fault(
                    Error,
                    "E004",
                    f"expected {action} to send {Job._meta.label} of backend {each.backend!r} "
                    f"to {each.alias!r}, got {answer!r} from {name}, which answers first",
                    "Put dj_queue's router before it in DATABASE_ROUTERS.",
                )
    for alias in known_databases():
        if any(isinstance(each, DjQueueRouter) for each in router.routers) and (
            not router.allow_migrate(alias, APP_LABEL)
        ):
            yield fault(
                Error,
                "E004",
                f"expected allow_migrate to put dj_queue's tables on {alias!r}, got False from a "
                "router that answers first",
                "Put dj_queue's router before it in DATABASE_ROUTERS.",
            )


def check_read_is_write(**_: Any) -> Found:
    """E005: queue rows are written to one database and read from another."""
    for each in healthy_routes():
        read, write = (who_answers(each.backend, f"db_for_{it}")[1] for it in ("read", "write"))
        if read != write:
            yield fault(
                Error,
                "E005",
                f"expected reads and writes of backend {each.backend!r} on one database, got "
                f"{read!r} for reading and {write!r} for writing",
                "Keep queue models away from the router that sends reads to a replica.",
            )


def check_mirrors(**_: Any) -> Found:
    """E006: a queue database that is a mirror of another one in tests."""
    for alias in known_databases():
        mirror = connections[alias].settings_dict.get("TEST", {}).get("MIRROR")
        if mirror:
            yield fault(
                Error,
                "E006",
                f"expected DATABASES[{alias!r}]['TEST']['MIRROR'] to be None for a queue database, "
                f"got {mirror!r}: in tests its rows would be those of {mirror!r}",
                "Remove MIRROR, or point the backend to the primary.",
            )


def check_vendors(**_: Any) -> Found:
    """E007: a vendor that has no claim engine."""
    for alias in known_databases():
        vendor = physical(alias).vendor
        if vendor not in VENDORS:
            yield fault(
                Error,
                "E007",
                f"expected DATABASES[{alias!r}]['ENGINE'] to be PostgreSQL, MySQL, MariaDB or "
                f"SQLite for a queue database, got {vendor!r}",
                "Keep the queue on a database of one of these vendors; the application may differ.",
            )


def check_requests(**_: Any) -> Found:
    """W010: requests run in a transaction that the jobs they enqueue are not part of."""
    for alias in connections.databases:
        apart = [each.backend for each in healthy_routes() if each.alias != alias]
        # Of a queue database W004 says so already; the application's concerns other queues too.
        concerns = alias == APPLICATION_ALIAS or alias not in databases()
        if apart and concerns and connections[alias].settings_dict.get("ATOMIC_REQUESTS"):
            yield fault(
                Warning,
                "W010",
                f"expected DATABASES[{alias!r}]['ATOMIC_REQUESTS'] to be False where jobs are kept "
                f"on another database, got True: what a view enqueues to {names_of(apart)} is "
                "committed at once, before the request's rows and even if they are rolled back",
                "Enqueue with transaction.on_commit(), or use transaction.atomic() where it is "
                "needed.",
            )


def check_foreign_keys(**_: Any) -> Found:
    """E008: another app's model has a relation to a queue model."""
    for model in apps.get_models():
        if model._meta.app_label == APP_LABEL:
            continue
        for field in model._meta.get_fields():
            target = field.related_model if field.is_relation and not field.auto_created else None
            if target is not None and is_ours(target):
                yield fault(
                    Error,
                    "E008",
                    f"expected {model._meta.label}.{field.name} to stay within its own database, "
                    f"got a relation to {target._meta.label}, which lives on a queue database",
                    "Keep the job's id in a UUIDField instead.",
                )


def names_of(backends: list[str]) -> str:
    """Return backends as text."""
    return f"backend{'s' * (len(backends) > 1)} {', '.join(map(repr, backends))}"


def known_databases() -> list[str]:
    """Return the queue databases that DATABASES has."""
    return [alias for alias in databases() if alias in connections.databases]


def healthy_routes() -> list[Any]:
    """Return the backends whose database exists."""
    return [each for each in routes().values() if each.alias in connections.databases]


def who_answers(backend: str, action: str) -> tuple[str, str]:
    """Ask the routers in their order, as Django does; return who answered, and what.

    Nobody's answer is Django's own: "default", from "".
    """
    with use_backend(backend):
        for each in router.routers:
            method = getattr(each, action, None)
            try:
                answer = method(Job) if method else None
            except DjQueueError as error:
                answer = str(error)
            if answer:
                return path_of(each), answer
    return "", "default"


def path_of(one: object) -> str:
    """Return the path of a router's class."""
    return f"{type(one).__module__}.{type(one).__qualname__}"


def is_ours(target: Any) -> bool:
    """Tell whether a relation's target is a queue model."""
    is_model = isinstance(target, type) and issubclass(target, Model)
    return is_model and target._meta.app_label == APP_LABEL
