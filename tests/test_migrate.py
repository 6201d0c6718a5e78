"""`manage.py dj_queue_migrate`: every queue database once, our app only, verified."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from dj_queue.checks import missing_tables
from tests.jobs import EVERY

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


def test_tables_that_were_recorded_but_are_not_there_are_named(without_tables):
    MigrationRecorder(connections["bulk"]).record_applied("dj_queue", "0001_initial")

    status, output = run()

    assert status == 1
    assert "it lacks dj_queue_attempt, dj_queue_claimedexecution" in output
    assert "not ready: 1 of 2 queue databases" in output
    assert "[1/2] queue" in output


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
