"""Checks that ask the databases: `manage.py check --database ALIAS`, and `dj_queue_routes`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning
from django.db import connections, router
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Count

from dj_queue.checks.connections import listening
from dj_queue.checks.deployment import describe_stranger, installation
from dj_queue.checks.migrating import is_about_to_migrate
from dj_queue.checks.routing import fault
from dj_queue.engines import engine_for
from dj_queue.engines.character_sets import narrow_places
from dj_queue.exceptions import InvalidOption
from dj_queue.models import STATES, FinishedExecution
from dj_queue.routers import Database
from dj_queue.routers.registry import backends_on, is_dedicated, is_queue_database, route
from dj_queue.routers.router import APP_LABEL
from dj_queue.routers.survey import AWAY

Found = Iterator[CheckMessage]

MIGRATE = "Run `manage.py dj_queue_migrate`."


def of_each_database(check: Callable[[Database], Found]) -> Callable[..., Found]:
    """Make a system check of one that looks at a single database.

    A database that does not answer is E100's finding; the other checks pass over it.
    """

    def over_all(databases: Sequence[str] | None = None, **_: Any) -> Found:
        for alias in databases or ():
            try:
                yield from list(check(Database(alias)))
            except AWAY as error:
                if check is reachable:
                    yield unreachable(alias, error)

    # Not functools.wraps: Django would look for **kwargs in the wrapped function's signature.
    over_all.__name__, over_all.__doc__ = check.__name__, check.__doc__
    return over_all


def reachable(db: Database) -> Found:
    """E100: a queue database that does not answer."""
    # Connecting alone proves little: SQLite opens any file, and a login may read no table.
    if is_queue_database(db.alias):
        recorded_migrations(db.alias)
        if not missing_tables(db.alias):
            installation(db)
    yield from ()


check_reachable = of_each_database(reachable)


def unreachable(alias: str, got: object) -> CheckMessage:
    """Build an E100."""
    message = f"expected database {alias!r} to answer, got {' '.join(str(got).split())}"
    return fault(Error, "E100", message, "Start it, or correct DATABASES.")


@of_each_database
def check_tables(db: Database) -> Found:
    """E101: django_migrations says that our tables were made, but they are not there."""
    if not is_queue_database(db.alias) or not recorded_migrations(db.alias):
        return
    missing = missing_tables(db.alias)
    if missing:
        yield fault(
            Error,
            "E101",
            f"expected dj_queue's tables on database {db.alias!r}, where django_migrations has "
            f"them applied, it lacks {', '.join(missing)}",
            repair_remedy(db.alias),
        )


@of_each_database
def check_migrations(db: Database) -> Found:
    """W104: migrations of ours that are not applied.

    A warning: `manage.py migrate` runs these checks first, and an error would stop it. Of what it
    is about to apply nobody needs to be warned.
    """
    if is_about_to_migrate(db.alias):
        return
    behind = unapplied_migrations(db.alias) if is_queue_database(db.alias) else []
    if behind:
        yield fault(
            Warning,
            "W104",
            f"expected all migrations of dj_queue on database {db.alias!r}, it lacks "
            f"{', '.join(behind)}",
            MIGRATE,
        )


@of_each_database
def check_server(db: Database) -> Found:
    """E102: a server too old for the queue."""
    if not is_queue_database(db.alias):
        return
    engine = engine_for(db)
    problem = engine.unfit(engine.server(db))
    if problem:
        yield fault(Error, "E102", f"{problem} (database {db.alias!r})", "Upgrade the server.")


@of_each_database
def check_character_sets(db: Database) -> Found:
    """E103: a queue database that cannot store every character."""
    if is_queue_database(db.alias):
        for place in narrow_places(db, sorted(present_tables(db.alias))):
            yield fault(
                Error,
                "E103",
                f"{place}: arguments, return values and errors may have characters that it cannot "
                "store",
                "On PostgreSQL create the database anew with ENCODING 'UTF8'. On MySQL and MariaDB "
                "do so with CHARACTER SET utf8mb4, or convert each column with ALTER TABLE ... "
                f"MODIFY; or set DATABASES[{db.alias!r}]['OPTIONS']['charset'] to 'utf8mb4'.",
            )


@of_each_database
def check_stranded_jobs(db: Database) -> Found:
    """W101: unfinished jobs of backends that do not use this database any more."""
    if missing_tables(db.alias):
        return
    # An alias to listen on is a queue database, reached another way.
    same = {db.alias, *(route.alias for route, own in listening() if own == db.alias)}
    at_home = [backend for alias in same for backend in backends_on(alias)]
    stranded: Counter[str] = Counter()
    for state in STATES:
        if state is not FinishedExecution:
            rows = db.objects(state).exclude(backend__in=at_home)
            stranded.update(dict(rows.values_list("backend").annotate(Count("pk"))))
    for backend, count in sorted(stranded.items()):
        yield fault(
            Warning,
            "W101",
            f"expected unfinished jobs on database {db.alias!r} only of backends that TASKS maps "
            f"to it, got {count} of {backend!r}: no worker will run them",
            "Map the backend to this database until they are done, or delete them.",
        )


@of_each_database
def check_dedicated(db: Database) -> Found:
    """W102: tables of other apps on a dedicated queue database."""
    if not is_dedicated(db.alias):
        return
    with db.cursor() as cursor:
        there = set(db.connection.introspection.table_names(cursor))
    foreign = sorted(
        model._meta.db_table
        for model in apps.get_models(include_auto_created=True)
        if model._meta.app_label != APP_LABEL
        and model._meta.db_table in there
        and not router.allow_migrate_model(db.alias, model)
    )
    if foreign:
        yield fault(
            Warning,
            "W102",
            f"expected no tables of other apps on the dedicated queue database {db.alias!r}, got "
            f"{', '.join(foreign)}",
            "Drop them if they are leftovers; no router sends their rows there.",
        )


@of_each_database
def check_deployment(db: Database) -> Found:
    """W103: the queue database belongs to another deployment."""
    problem = describe_stranger(db) if is_queue_database(db.alias) else None
    if problem:
        remedy = "Correct DATABASES; or, if it is yours, run `manage.py dj_queue_migrate --adopt`."
        yield fault(Warning, "W103", problem, remedy)


def repair_remedy(alias: str) -> str:
    """Say what helps where migrations are recorded and tables are missing."""
    wrong = [each for each in backends_on(alias) if not has_right_options(each)]
    if wrong:
        # Perhaps it is the database_alias that is wrong: tables must not be made here then.
        return f"Correct the settings of {', '.join(map(repr, wrong))} first, see E001."
    present = present_tables(alias)
    if not present:
        return "Run `manage.py dj_queue_migrate --repair`."
    return (
        f"Some of them exist ({', '.join(sorted(present))}), so `--repair` would refuse: find out "
        "who dropped the others, and restore them from a backup."
    )


def has_right_options(backend: str) -> bool:
    """Tell whether the backend's settings are free of E001."""
    try:
        return bool(route(backend).options)
    except InvalidOption:
        return False


def missing_tables(alias: str) -> list[str]:
    """Return the names of our tables that the database `alias` lacks, sorted."""
    return sorted(our_tables() - present_tables(alias))


def present_tables(alias: str) -> set[str]:
    """Return those of our tables that are on the database `alias`."""
    with connections[alias].cursor() as cursor:
        return our_tables() & set(connections[alias].introspection.table_names(cursor))


def our_tables() -> set[str]:
    """Return the names of dj_queue's tables."""
    return {model._meta.db_table for model in apps.get_app_config(APP_LABEL).get_models()}


def recorded_migrations(alias: str) -> list[str]:
    """Return the names of our migrations that `alias` has in django_migrations."""
    applied = MigrationRecorder(connections[alias]).applied_migrations()
    return sorted(name for label, name in applied if label == APP_LABEL)


def unapplied_migrations(alias: str) -> list[str]:
    """Return the names of our migrations that `alias` lacks, in order."""
    executor = MigrationExecutor(connections[alias])
    leaves = executor.loader.graph.leaf_nodes(APP_LABEL)
    plan = executor.migration_plan(leaves)
    return [migration.name for migration, _ in plan if migration.app_label == APP_LABEL]
