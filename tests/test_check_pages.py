"""Each check has a page, and the page quotes what the check really says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from django.core.checks import CheckMessage
from django.db import OperationalError, connections, models
from django.test.utils import isolate_apps

import dj_queue
from dj_queue.checks import connections as connections_module
from dj_queue.checks import drivers, live, places, queues, recurring, routing, waiting
from dj_queue.checks.deployment import deployment
from dj_queue.engines.base import Server
from dj_queue.engines.mariadb import MariaDBEngine
from dj_queue.engines.postgresql import PostgreSQLEngine
from dj_queue.models import Installation, Job, ReadyExecution
from dj_queue.models.ids import new_id
from dj_queue.observability import route_map
from dj_queue.routers import queue_database, registry
from dj_queue.routers.registry import PhysicalDatabase
from tests.jobs import EVERY
from tests.live_workers import run

PACKAGE = Path(dj_queue.__file__).resolve().parent
DOCS = PACKAGE.parent / "docs"
INDEX = (DOCS / "checks.md").read_text(encoding="utf-8")
PAGES = {
    page.stem: page.read_text(encoding="utf-8") for page in sorted((DOCS / "checks").glob("*.md"))
}


def levels(source: str) -> dict[str, str]:
    """Give the level of each id that a part of the code reports."""
    found = re.findall(r'fault\(\s*(Error|Warning),\s*"(\w+)"', source)
    return {number: level.lower() for level, number in found}


STATIC = {
    **levels((PACKAGE / "checks" / "routing.py").read_text(encoding="utf-8")),
    **levels((PACKAGE / "checks" / "connections.py").read_text(encoding="utf-8")),
    **levels((PACKAGE / "checks" / "drivers.py").read_text(encoding="utf-8")),
    **levels((PACKAGE / "checks" / "queues.py").read_text(encoding="utf-8")),
    **levels((PACKAGE / "checks" / "recurring.py").read_text(encoding="utf-8")),
}
LIVE = {
    **levels((PACKAGE / "checks" / "live.py").read_text(encoding="utf-8")),
    **levels((PACKAGE / "checks" / "places.py").read_text(encoding="utf-8")),
    **levels((PACKAGE / "checks" / "waiting.py").read_text(encoding="utf-8")),
}
KINDS = {**dict.fromkeys(STATIC, "static"), **dict.fromkeys(LIVE, "live")}
LEVELS = {**STATIC, **LIVE}


def quotes(page: str) -> list[str]:
    """Give the messages that a page quotes."""
    found = re.findall(r"^( *)```text\n(.*?)\n^ *```$", PAGES[page], re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def test_every_id_in_the_code_has_a_page_and_back() -> None:
    everywhere = levels("".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py")))

    assert everywhere == LEVELS
    assert set(PAGES) == set(LEVELS)


def test_index_has_each_check_with_its_kind_and_level() -> None:
    rows = re.findall(r"^\| \[(\w+)\]\(checks/(\w+)\.md\) \| (\w+) \| (\w+) \| .", INDEX, re.M)

    assert rows == [(each, each, KINDS[each], LEVELS[each]) for each in sorted(LEVELS)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_what_why_and_what_to_do(page: str) -> None:
    headings = re.findall(r"^#+ .+", PAGES[page], re.MULTILINE)

    assert headings[0].startswith(f"# {page}: ")
    assert headings[1:] == ["## Why it matters", "## What to do"]
    kind, level = KINDS[page].capitalize(), LEVELS[page]
    assert re.search(rf"^{kind} check, {level}\. ", PAGES[page], re.MULTILINE)


@dataclass
class Project:
    """The test project, to be spoilt for the time of one test."""

    settings: Any
    patch: pytest.MonkeyPatch

    def option(self, backend: str, **options: Any) -> None:
        """Change OPTIONS of a backend."""
        own = self.settings.TASKS[backend]
        changed = {**own, "OPTIONS": {**own["OPTIONS"], **options}}
        self.settings.TASKS = {**self.settings.TASKS, backend: changed}

    def database(self, alias: str, **values: Any) -> None:
        """Change the entry of a database in DATABASES."""
        for name, value in values.items():
            self.patch.setitem(connections[alias].settings_dict, name, value)

    def places(self, **known: PhysicalDatabase) -> None:
        """Say what aliases connect to; those not given are databases of a PostgreSQL server."""
        other = {each: PhysicalDatabase("postgresql", "db", "5432", each) for each in connections}
        for module in (routing, connections_module):
            self.patch.setattr(module, "physical", {**other, **known}.__getitem__)

    def ask(self, check: Callable[..., Iterable[CheckMessage]]) -> list[CheckMessage]:
        """Run one live check on the database `bulk`."""
        return list(check(databases=["bulk"]))


class OneDatabase:
    """The router that corrupts a second queue database."""

    __module__ = "shop.routers"

    def db_for_read(self, model: type[models.Model], **hints: Any) -> str:
        return "default"

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == "default"


class Replica:
    """The router that reads from another database than it writes to."""

    def db_for_read(self, model: type[models.Model], **hints: Any) -> str:
        return "replica"


def wrong_option(project: Project) -> Iterable[CheckMessage]:
    project.option("default", dispatcher={"batch_size": 0})
    yield from routing.check_options()
    for wrong in ({"database_alias": "queue"}, {"ENQUEUE_ON_COMMIT": True}):
        project.settings.TASKS = {"default": {"BACKEND": registry.BACKEND_PATH, **wrong}}
        yield from routing.check_options()


def broken_neighbours(project: Project) -> Iterable[CheckMessage]:
    project.settings.TASKS = {**project.settings.TASKS, "mail": {"BACKEND": "mailer.tasks.Backend"}}
    return routing.check_neighbours()


def queues_without_workers(project: Project) -> Iterable[CheckMessage]:
    project.option("bulk", workers=[{"queues": ["emial"]}])
    yield from queues.check_queues()
    own = {**project.settings.TASKS["bulk"], "QUEUES": ["email"]}
    project.settings.TASKS = {**project.settings.TASKS, "bulk": own}
    yield from queues.check_queues()


def waiting_for_nobody(project: Project) -> Iterable[CheckMessage]:
    project.option("bulk", workers=[{"queues": ["mail", "default"]}])
    row = {"backend": "bulk", "priority": 0}
    rows = [ReadyExecution(job_id=new_id(), queue_name="email", **row) for _ in range(3)]
    rows += [ReadyExecution(job_id=new_id(), queue_name="mail", **row)]
    ReadyExecution._base_manager.using("bulk").bulk_create(rows)
    return project.ask(waiting.check_waiting_jobs)


def waiting_for_a_restart(project: Project) -> Iterable[CheckMessage]:
    run(queue_database("bulk"), ["mail"])
    rows = [
        ReadyExecution(job_id=new_id(), queue_name="email", backend="bulk", priority=0)
        for _ in range(3)
    ]
    ReadyExecution._base_manager.using("bulk").bulk_create(rows)
    return project.ask(waiting.check_waiting_jobs)


def unknown_database(project: Project) -> Iterable[CheckMessage]:
    project.option("bulk", database_alias="blk")
    return routing.check_databases()


def no_router(project: Project) -> Iterable[CheckMessage]:
    project.settings.DATABASE_ROUTERS = []
    return routing.check_router()


def somebody_answers_first(project: Project) -> Iterable[CheckMessage]:
    routers = project.settings.DATABASE_ROUTERS
    project.settings.DATABASE_ROUTERS = [OneDatabase(), *routers]
    return routing.check_who_answers()


def reads_elsewhere(project: Project) -> Iterable[CheckMessage]:
    routers = project.settings.DATABASE_ROUTERS
    project.settings.DATABASE_ROUTERS = [Replica(), *routers]
    return routing.check_read_is_write()


def mirror(project: Project) -> Iterable[CheckMessage]:
    project.database("bulk", TEST={"MIRROR": "default"})
    return routing.check_mirrors()


def other_vendor(project: Project) -> Iterable[CheckMessage]:
    project.places(bulk=PhysicalDatabase("oracle", "db", "1521", "shop"))
    return routing.check_vendors()


def foreign_key(project: Project) -> Iterable[CheckMessage]:
    with isolate_apps("tests.shop") as isolated:

        class Order(models.Model):
            job = models.ForeignKey(Job, models.CASCADE, related_name="+")

            class Meta:
                app_label = "shop"

            def __str__(self) -> str:
                return "order"

    project.patch.setattr(routing, "apps", isolated)
    return routing.check_foreign_keys()


def recurring_of(project: Project, **entry: Any) -> None:
    defaults = {"task_path": "tests.shop.tasks.add", "schedule": "0 3 * * *"}
    project.option("default", recurring={"nightly": {**defaults, **entry}})


def bad_schedules(project: Project) -> Iterable[CheckMessage]:
    recurring_of(project, schedule="0 25 * * *")
    yield from recurring.check_schedules()
    recurring_of(project, schedule="0 0 30 2 *")
    yield from recurring.check_schedules()
    recurring_of(project, timezone="Europe/Nowhere")
    yield from recurring.check_schedules()


def bad_paths(project: Project) -> Iterable[CheckMessage]:
    recurring_of(project, task_path="tests.shop.tasks.gone")
    yield from recurring.check_task_paths()
    recurring_of(project, task_path="tests.shop.tasks.not_a_task")
    yield from recurring.check_task_paths()


def bad_jobs(project: Project) -> Iterable[CheckMessage]:
    recurring_of(project, args=[{1, 2}])
    yield from recurring.check_jobs()
    own = {**project.settings.TASKS["default"], "QUEUES": ["default", "mail"]}
    project.settings.TASKS = {**project.settings.TASKS, "default": own}
    recurring_of(project, queue_name="night")
    yield from recurring.check_jobs()


def one_place(project: Project) -> Iterable[CheckMessage]:
    place = PhysicalDatabase("postgresql", "localhost", "5432", "shop")
    project.places(queue=place, default=place)
    return connections_module.check_physical_databases()


def one_place_says_the_server(project: Project) -> Iterable[CheckMessage]:
    project.patch.setattr(places, "place_of", lambda db: ("postgresql", "today", "shop", "public"))
    return places.check_places(databases=["queue", "default"])


def repeatable_read(project: Project) -> Iterable[CheckMessage]:
    project.places(bulk=PhysicalDatabase("mysql", "db", "3306", "bulk"))
    project.database("bulk", OPTIONS={"isolation_level": "repeatable read"})
    return connections_module.check_isolation()


def impatient_sqlite(project: Project) -> Iterable[CheckMessage]:
    project.places(bulk=PhysicalDatabase("sqlite", "", "", "there-is-no-such.sqlite3"))
    project.database("bulk", OPTIONS={"timeout": 1})
    project.patch.setattr(connections["bulk"], "is_in_memory_db", lambda: False, raising=False)
    return connections_module.check_sqlite()


def atomic_requests(project: Project) -> Iterable[CheckMessage]:
    project.database("bulk", ATOMIC_REQUESTS=True)
    return connections_module.check_atomic_requests()


def never_committing(project: Project) -> Iterable[CheckMessage]:
    project.database("bulk", AUTOCOMMIT=False)
    return drivers.check_autocommit()


def requests_without_jobs(project: Project) -> Iterable[CheckMessage]:
    project.database("default", ATOMIC_REQUESTS=True)
    return routing.check_requests()


def driver(name: str, version: str) -> ModuleType:
    module = ModuleType(name)
    module.__version__ = version  # type: ignore[attr-defined]
    return module


def other_mysql_driver(project: Project) -> Iterable[CheckMessage]:
    project.places(bulk=PhysicalDatabase("mysql", "db", "3306", "shop"))
    project.patch.setattr(connections["bulk"], "Database", driver("pymysql", "1.1.2"))
    return drivers.check_mysql_drivers()


def other_postgresql_driver(project: Project) -> Iterable[CheckMessage]:
    project.places()
    for alias in ("default", "queue"):
        project.patch.setattr(connections[alias], "Database", driver("psycopg", "3.2.10"))
    found = driver("psycopg2", "2.9.11 (dt dec pq3 ext lo64)")
    project.patch.setattr(connections["bulk"], "Database", found)
    return drivers.check_postgresql_drivers()


def small_pool(project: Project) -> Iterable[CheckMessage]:
    project.database("bulk", OPTIONS={"pool": {"max_size": 4}})
    return connections_module.check_pools()


def listening_nowhere(project: Project) -> Iterable[CheckMessage]:
    project.places(bulk=PhysicalDatabase("sqlite", "", "", "bulk.sqlite3"))
    project.option("default", listen_database_alias="direct")
    project.option("alerts", listen_database_alias="bulk")
    return connections_module.check_listening_aliases()


def reading_nowhere(project: Project) -> Iterable[CheckMessage]:
    project.places(bulk=PhysicalDatabase("sqlite", "", "", "bulk.sqlite3"))
    project.option("default", read_database_alias="replica")
    project.option("alerts", read_database_alias="bulk")
    return connections_module.check_reading_aliases()


def listening_elsewhere(project: Project) -> Iterable[CheckMessage]:
    project.places(
        queue=PhysicalDatabase("postgresql", "pooler", "6432", "shop_queue"),
        default=PhysicalDatabase("postgresql", "db", "5432", "shop"),
    )
    project.option("default", listen_database_alias="default")
    return connections_module.check_listening_places()


def pooler(project: Project) -> Iterable[CheckMessage]:
    project.places()
    for alias in ("queue", "bulk"):
        options = {"HOST": "", "PORT": "", "OPTIONS": {}}
        prepared = {"prepare_threshold": 5, "server_side_binding": True}
        pooled = {"PORT": 6432, "OPTIONS": prepared} if alias == "bulk" else {}
        project.database(alias, **{**options, **pooled})
    return connections_module.check_poolers()


def no_answer(project: Project) -> Iterable[CheckMessage]:
    def refuse() -> None:
        raise OperationalError("unable to open database file")

    project.patch.setattr(connections["bulk"], "ensure_connection", refuse)
    yield from project.ask(live.check_reachable)
    yield from route_map._unreachable("bulk", "nothing within 5 s").found


def recorded_only(project: Project) -> Iterable[CheckMessage]:
    project.patch.setattr(live, "recorded_migrations", lambda alias: ["0001_initial"])
    project.patch.setattr(live, "present_tables", lambda alias: set())
    return project.ask(live.check_tables)


def behind(project: Project) -> Iterable[CheckMessage]:
    project.patch.setattr(live, "unapplied_migrations", lambda alias: ["0001_initial"])
    return project.ask(live.check_migrations)


def old_servers(project: Project) -> Iterable[CheckMessage]:
    class PostgreSQL13(PostgreSQLEngine):
        def server(self, db: Any) -> Server:
            return Server("PostgreSQL", (13, 4), "read committed")

    class MariaDB10113(MariaDBEngine):
        def server(self, db: Any) -> Server:
            return Server("MariaDB", (10, 11, 3), "read committed")

    for engine in (PostgreSQL13(), MariaDB10113()):
        project.patch.setattr(live, "engine_for", lambda db, engine=engine: engine)
        yield from project.ask(live.check_server)


def narrow(project: Project) -> Iterable[CheckMessage]:
    columns = "dj_queue_attempt.message, dj_queue_job.args"
    places = [
        "expected the encoding of database 'bulk' to be UTF8, got LATIN1",
        "expected columns of database 'bulk' to have the character set utf8mb4, got latin1 for "
        + columns,
    ]
    project.patch.setattr(live, "narrow_places", lambda db, tables: iter(places))
    return project.ask(live.check_character_sets)


def stranded(project: Project) -> Iterable[CheckMessage]:
    row = {"backend": "mail", "queue_name": "mail", "priority": 0}
    rows = [ReadyExecution(job_id=new_id(), **row) for _ in range(12)]
    ReadyExecution._base_manager.using("bulk").bulk_create(rows)
    return project.ask(live.check_stranded_jobs)


def tables_of_others(project: Project) -> Iterable[CheckMessage]:
    names = ["auth_user", "django_migrations", "dj_queue_job", "shop_order"]
    introspection = connections["bulk"].introspection
    project.patch.setattr(introspection, "table_names", lambda cursor: names)
    return project.ask(live.check_dedicated)


def others(project: Project) -> Iterable[CheckMessage]:
    db = queue_database("bulk")
    db.objects(Installation).all().delete()
    row = Installation(
        installation_id=UUID("01a20946-cde8-723d-8658-06f11e9f02fd"),
        deployment="production",
        backends=["bulk"],
        recorded_at=datetime(2026, 3, 1, 8, 30, tzinfo=UTC),
    )
    db.objects(Installation).bulk_create([row])
    yield from project.ask(live.check_deployment)
    db.objects(Installation).update(deployment=deployment(), backends=["bulk", "mail"])
    yield from project.ask(live.check_deployment)


PROVOKED: Mapping[str, Callable[[Project], Iterable[CheckMessage]]] = {
    "E001": wrong_option,
    "E002": unknown_database,
    "E003": no_router,
    "E004": somebody_answers_first,
    "E005": reads_elsewhere,
    "E006": mirror,
    "E007": other_vendor,
    "E008": foreign_key,
    "E009": listening_nowhere,
    "E010": bad_schedules,
    "E011": bad_paths,
    "E012": bad_jobs,
    "E013": reading_nowhere,
    "E014": never_committing,
    "E015": other_mysql_driver,
    "W001": one_place,
    "W002": repeatable_read,
    "W003": impatient_sqlite,
    "W004": atomic_requests,
    "W005": small_pool,
    "W006": listening_elsewhere,
    "W007": pooler,
    "W008": broken_neighbours,
    "W009": queues_without_workers,
    "W010": requests_without_jobs,
    "W011": other_postgresql_driver,
    "W106": one_place_says_the_server,
    "W105": waiting_for_nobody,
    "W107": waiting_for_a_restart,
    "E100": no_answer,
    "E101": recorded_only,
    "W104": behind,
    "E102": old_servers,
    "E103": narrow,
    "W101": stranded,
    "W102": tables_of_others,
    "W103": others,
}


def test_every_check_is_provoked() -> None:
    assert set(PROVOKED) == set(LEVELS)


@pytest.mark.django_db(**EVERY)
@pytest.mark.parametrize("number", PROVOKED)
def test_a_page_quotes_what_the_check_says(
    number: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list(PROVOKED[number](Project(settings, monkeypatch)))

    said = [each.msg for each in found]
    assert quotes(number)
    assert [quote for quote in quotes(number) if quote not in said] == [], said
    assert {each.id for each in found} == {f"dj_queue.{number}"}
    assert {each.hint.rpartition(" See ")[2] for each in found} == {
        f"{dj_queue.DOCUMENTATION}checks/{number}.html"
    }


def test_the_hint_about_a_driver_names_the_settings_of_all_its_backends(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(settings, monkeypatch)
    project.places()
    for alias in ("queue", "bulk"):
        monkeypatch.setattr(connections[alias], "Database", driver("psycopg2", "2.9.11"))

    hints = [each.hint for each in drivers.check_postgresql_drivers()]

    path = "TASKS[{!r}]['OPTIONS']['listen_notify']".format
    both = f"{path('default')} and {path('alerts')}"
    assert [hint.partition("or set ")[2].partition(" to False.")[0] for hint in hints] == [
        both,
        path("bulk"),
    ]
