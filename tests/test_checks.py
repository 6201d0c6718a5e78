"""System checks: each fault by its id, and its healthy twin stays silent."""

from types import ModuleType

import pytest
from django.core.checks import run_checks
from django.db import connections

from dj_queue.checks.drivers import check_postgresql_drivers
from dj_queue.checks.routing import check_options
from dj_queue.routers.registry import PhysicalDatabase

# Checks look at DATABASES and ask each connection for its vendor.
pytestmark = pytest.mark.usefixtures("vendor_by_alias")


def found(databases=None):
    """Run the project's checks as `manage.py check` does; give our messages."""
    messages = run_checks(databases=databases or [])
    return {m.id: m for m in messages if m.id and m.id.startswith("dj_queue.")}


@pytest.fixture
def change(settings):
    """Give a function that changes one backend's OPTIONS."""

    def change(backend, **options):
        own = settings.TASKS[backend]
        changed = {**own, "OPTIONS": {**own["OPTIONS"], **options}}
        settings.TASKS = {**settings.TASKS, backend: changed}

    return change


def test_a_healthy_project_is_silent():
    assert found() == {}


def test_e001_names_every_wrong_option(change):
    change("bulk", workers=[{"threads": 0}], colour="red")

    messages = [m.msg for m in check_options() if m.id == "dj_queue.E001"]

    assert [m.partition(": ")[0] for m in messages] == [
        "TASKS['bulk']['OPTIONS']['workers'][0]['threads']",
        "TASKS['bulk']['OPTIONS']['colour']",
    ]
    assert "dj_queue.E001" in found()


def test_e002_names_a_database_that_is_not_there(change):
    change("bulk", database_alias="blk")

    message = found()["dj_queue.E002"]

    assert message.msg == (
        "TASKS['bulk']['OPTIONS']['database_alias']: expected an alias of DATABASES "
        "('default', 'queue', 'bulk'), got 'blk'"
    )


def test_an_alias_that_is_no_name_is_an_option_error_and_stops_no_check(change):
    change("bulk", database_alias=["queue"])

    assert "expected the alias of a database" in found()["dj_queue.E001"].msg


@pytest.mark.parametrize("alias", ["queue", "default"])
def test_e016_looks_at_what_the_queue_is_written_to_and_read_from(change, monkeypatch, alias):
    change("bulk", read_database_alias="default")
    monkeypatch.setitem(connections[alias].settings_dict, "AUTOCOMMIT", False)

    assert f"DATABASES['{alias}']['AUTOCOMMIT']" in found()["dj_queue.E014"].msg


def test_drivers_that_work_are_silent_and_so_is_who_does_not_listen(change, monkeypatch):
    old = ModuleType("psycopg")
    old.__version__ = "3.1.18"
    place = PhysicalDatabase("postgresql", "db", "5432", "shop")
    monkeypatch.setattr("dj_queue.checks.connections.physical", lambda alias: place)
    for alias in ("default", "queue", "bulk"):
        monkeypatch.setattr(connections[alias], "Database", old)

    before = [each.msg for each in check_postgresql_drivers()]
    for backend in ("default", "alerts", "bulk"):
        change(backend, listen_notify=False)

    assert [each.partition(", got ")[2] for each in before] == [
        "psycopg 3.1.18: workers cannot listen with it, they poll"
    ] * 2
    assert list(check_postgresql_drivers()) == []


def test_e003_asks_for_the_router_where_a_queue_database_is_not_default(settings):
    settings.DATABASE_ROUTERS = []

    assert "'queue', 'bulk'" in found()["dj_queue.E003"].msg


def test_no_router_is_needed_where_all_queues_live_on_default(settings, change):
    settings.DATABASE_ROUTERS = []
    for backend in ("default", "alerts", "bulk"):
        change(backend, database_alias="default")

    assert found() == {}


def test_recurring_tasks_that_are_right_are_silent_and_wrong_options_are_e001s(change):
    entry = {"task_path": "tests.shop.tasks.add", "schedule": "0 3 * * *", "args": [1, 2]}
    change("default", recurring={"nightly": entry})
    assert found() == {}

    change("default", recurring={"nightly": {**entry, "priority": "high"}})
    assert set(found()) == {"dj_queue.E001"}


def test_checks_send_no_statement_and_open_no_connection(change, monkeypatch):
    from django.db.backends.base.base import BaseDatabaseWrapper

    monkeypatch.setattr(BaseDatabaseWrapper, "connect", lambda self: pytest.fail("it connected"))
    change("bulk", database_alias="blk")

    assert "dj_queue.E002" in found()
