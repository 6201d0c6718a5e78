"""`manage.py dj_queue_migrate`: every queue database once, our app only, verified."""

from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from threading import Event

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from dj_queue.checks import missing_tables
from dj_queue.engines import engine_for, migration_lock
from dj_queue.management.commands.dj_queue_migrate import Command
from dj_queue.models import Pause
from dj_queue.routers import queue_database
from tests.jobs import EVERY
from tests.races.together import together
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)


def run(*arguments):
    """Run the command; return its exit status and what it printed."""
    out = StringIO()
    status = 0
    try:
        call_command("dj_queue_migrate", *arguments, stdout=out, stderr=out, no_color=True)
    except CommandError as error:
        status = 1
        out.write(str(error))
    return status, out.getvalue()


@pytest.fixture
def without_tables():
    """Take our tables and their migration record away from `bulk`; put them back afterwards."""
    call_command("migrate", "dj_queue", "zero", database="bulk", verbosity=0)
    assert missing_tables("bulk")
    yield
    if missing_tables("bulk"):
        MigrationRecorder(connections["bulk"]).migration_qs.filter(app="dj_queue").delete()
        call_command("migrate", "dj_queue", database="bulk", verbosity=0)


def test_each_queue_database_is_migrated_once_and_named_with_its_backends():
    status, output = run()

    assert (status, output.splitlines()) == (
        0,
        [
            "[1/2] queue (backends: default, alerts)",
            "      tables verified",
            "[2/2] bulk (backends: bulk)",
            "      tables verified",
            "ready: 2 queue databases",
        ],
    )


def test_missing_tables_are_created(without_tables):
    status, _ = run("--backend", "bulk")

    assert (status, missing_tables("bulk")) == (0, [])


@pytest.fixture
def pointed_elsewhere(without_tables):
    """Make `bulk` a database that has our migrations recorded but not our tables."""
    MigrationRecorder(connections["bulk"]).record_applied("dj_queue", "0001_initial")


def test_tables_that_were_recorded_but_are_not_there_are_named(pointed_elsewhere):
    status, output = run()

    assert status == 1
    assert "it lacks dj_queue_attempt, dj_queue_blockedexecution" in output
    assert "Run `manage.py dj_queue_migrate --repair`" in output
    assert "not ready: 1 of 2 queue databases" in output
    assert "[1/2] queue" in output


def test_repair_heals_a_database_that_was_pointed_elsewhere(pointed_elsewhere):
    status, output = run("--repair")

    assert (status, missing_tables("bulk")) == (0, [])
    assert output.count("repaired: forgot migrations that were never applied") == 1
    assert run("--repair")[0] == 0


def test_repair_is_refused_where_any_of_our_tables_exists(pointed_elsewhere):
    connection = connections["bulk"]
    with connection.schema_editor() as editor:
        editor.create_model(Pause)

    status, output = run("--repair", "--backend", "bulk")

    with connection.schema_editor() as editor:
        editor.delete_model(Pause)
    assert status == 1
    assert "to repair it, got dj_queue_pause without dj_queue_attempt" in output
    assert len(missing_tables("bulk")) == len(missing_tables("default"))


def test_two_hosts_repair_at_once(pointed_elsewhere):
    def repair() -> tuple[int, str]:
        return run("--repair", "--backend", "bulk")

    results = together([repair, repair])

    assert [status for status, _ in results] == [0, 0], results
    assert sum(output.count("repaired") for _, output in results) == 1
    assert missing_tables("bulk") == []


def test_two_hosts_migrate_at_once(without_tables):
    results = together([lambda: run("--backend", "bulk")] * 2)

    assert [status for status, _ in results] == [0, 0], results
    assert missing_tables("bulk") == []


@pytest.fixture
def migrating():
    """Let another host have the lock of `bulk`; give the event that ends its migration."""
    has_lock, ends = Event(), Event()

    def hold() -> bool:
        db = queue_database("bulk")
        try:
            with engine_for(db).locked(db) as is_ours:
                has_lock.set()
                return is_ours and ends.wait(60)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(hold)
        assert has_lock.wait(60)
        yield ends
        ends.set()
        assert held.result()


@pytest.mark.parametrize("option", [(), ("--repair",), ("--adopt",)], ids=str)
def test_a_run_does_not_wait_for_ever_for_another(migrating, monkeypatch, option):
    monkeypatch.setattr(migration_lock, "LOCK_SECONDS", 0)

    status, output = run("--backend", "bulk", *option)

    assert status == 1
    assert "expected no other dj_queue_migrate on database 'bulk', got one that" in output
    assert "Run it again when that one has ended" in output


def test_who_waits_for_another_run_is_told_and_goes_on_after_it(migrating, without_tables):
    out = StringIO()

    def wait() -> None:
        call_command("dj_queue_migrate", backend=["bulk"], stdout=out)

    def end() -> None:
        until(lambda: "another dj_queue_migrate is running, waiting up to 60 s" in out.getvalue())
        assert missing_tables("bulk")
        migrating.set()

    together([wait, end])

    assert out.getvalue().count("waiting") == 1
    assert missing_tables("bulk") == []


def test_a_run_that_fails_leaves_no_lock(monkeypatch):
    def fail(*arguments: object) -> None:
        raise CommandError("no")

    monkeypatch.setattr(Command, "_migrate", fail)
    assert run("--backend", "bulk")[0] == 1
    monkeypatch.undo()
    monkeypatch.setattr(migration_lock, "LOCK_SECONDS", 0)

    assert together([lambda: run("--backend", "bulk")])[0][0] == 0


def test_check_changes_nothing_and_says_what_is_missing(without_tables):
    status, output = run("--check")

    assert status == 1
    assert "expected all migrations of dj_queue on database 'bulk', it lacks 0001_ini" in output
    assert missing_tables("bulk") != []


def test_check_of_a_healthy_project_is_silent_about_faults():
    run()

    assert run("--check")[0] == 0


def test_a_database_of_another_deployment_is_not_migrated_unless_adopted(settings):
    run()
    settings.SECRET_KEY = "production's"

    refused, output = run("--backend", "bulk")
    adopted, _ = run("--backend", "bulk", "--adopt")

    assert (refused, adopted, run("--backend", "bulk")[0]) == (1, 0, 0)
    assert "of another SECRET_KEY or application database" in output
    assert "`manage.py dj_queue_migrate --adopt`" in output


def test_new_backends_of_the_same_deployment_are_recorded_by_migrate(settings):
    run()
    settings.TASKS = {**settings.TASKS, "more": settings.TASKS["bulk"]}

    before, output = run("--check", "--backend", "bulk")

    assert (before, run()[0], run("--check")[0]) == (1, 0, 0)
    assert "with backends bulk instead of bulk, more" in output


def test_an_unknown_backend_is_named():
    status, output = run("--backend", "blk")

    assert (status, output) == (
        1,
        "expected a dj_queue backend of TASKS ('default', 'alerts', 'bulk'), got 'blk'",
    )


@pytest.mark.parametrize("command", ["dj_queue", "dj_queue_migrate"])
def test_a_project_without_our_backend_is_told_so(settings, command):
    settings.TASKS = {}

    with pytest.raises(CommandError, match="expected a backend in TASKS whose BACKEND is dj_queue"):
        call_command(command)
