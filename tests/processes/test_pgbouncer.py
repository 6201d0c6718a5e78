"""The queue database behind a real PgBouncer in transaction mode: no session outlives anything."""

import pytest
from django.core.management import call_command
from django.db import ProgrammingError, connections

from dj_queue.checks import missing_tables
from dj_queue.management.commands.dj_queue_migrate import Command
from dj_queue.models import Pause
from dj_queue.routers import queue_database
from tests.admin.conftest import ACTIONS, ROOT, staff
from tests.jobs import EVERY, NOW, counts, store
from tests.processes.pooled import behind, pooler
from tests.processes.records import check, check_stopped
from tests.races.together import together
from tests.shop.recorded import note
from tests.test_migrate import run
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

PREPARING = pytest.mark.parametrize("options", [{}, {"prepare_threshold": 0}], ids=str)


@pytest.fixture(scope="module")
def place():
    """Give where the pooler is that the tests share."""
    with pooler() as place:
        yield place


@pytest.fixture
def db():
    return queue_database("default")


@pytest.fixture
def direct(db):
    """Give a cursor that reaches the server past every pooler that a test starts."""
    connection = connections[db.alias].copy()
    with connection.cursor() as cursor:
        yield cursor
    connection.close()


def rows(cursor, sql):
    cursor.execute(sql)
    return cursor.fetchall()


def test_a_migrate_beside_which_somebody_enqueues_leaves_no_lock(place, direct, db, monkeypatch):
    with behind(place):
        neighbour = connections[db.alias].copy()
        migrate = Command._migrate

        def beside(*arguments):
            # Takes the connection to the server that the last statement was sent on, if it may.
            neighbour.set_autocommit(False)
            rows(neighbour.cursor(), "SELECT 1")
            migrate(*arguments)

        monkeypatch.setattr(Command, "_migrate", beside)
        status, output = run("--backend", "default")
        neighbour.rollback()  # Closed in the middle it would take the server's connection along.
        neighbour.close()
        left = rows(direct, "SELECT pid FROM pg_locks WHERE locktype = 'advisory'")

        assert (status, left) == (0, []), output
        monkeypatch.undo()
        assert run("--backend", "default")[0] == 0


@pytest.fixture
def without_tables(db):
    call_command("migrate", "dj_queue", "zero", database=db.alias, verbosity=0)
    assert missing_tables(db.alias)
    yield
    call_command("migrate", "dj_queue", database=db.alias, verbosity=0)


def test_two_hosts_migrate_at_once_through_a_pooler(place, db, without_tables):
    with behind(place):
        results = together([lambda: run("--backend", "default")] * 2)

    assert [status for status, _ in results] == [0, 0], results
    assert missing_tables(db.alias) == []


def test_a_migrate_needs_no_more_than_one_connection_to_the_server(db, without_tables):
    with pooler(pool_size=1) as place, behind(place):
        status, output = run("--backend", "default")

    assert status == 0, output
    assert missing_tables(db.alias) == []


@PREPARING
@pytest.mark.parametrize("route", [None, "queue_direct"])
def test_workers_behind_a_pooler_do_every_job_once(start, records, place, direct, options, route):
    db = queue_database("default")
    command = start(
        "dj_queue",
        "--backend",
        "default",
        queue={**place, "OPTIONS": options},
        listen_database_alias=route,
        workers=[{"threads": 3, "polling_interval": 0.05}],
    )
    with behind(place, **options):
        for _ in range(20):  # More than prepare a statement, on several connections.
            note.enqueue()
        note.get_backend().enqueue_all([(note, [], {})] * 20)
    until(lambda: counts(db) == {"finished": 40})

    listening = "SELECT pid FROM pg_stat_activity WHERE query = 'LISTEN dj_queue'"
    if route:
        until(lambda: rows(direct, listening))
    else:
        until(lambda: "listener_down database=queue" in command.output)
        assert "TASKS['default']['OPTIONS']['listen_database_alias'], or set" in command.output
        assert rows(direct, listening) == []
    check(db, records, enqueued=40)
    status, output = command.end()
    assert status == 0, output
    for event in ("database_down", "loop_failed", "claim_lost", "job_abandoned"):
        assert event not in output
    check_stopped(db)


def test_what_django_prepares_fails_behind_a_pooler_that_does_not_keep_it_apart(db):
    # As W007 says; PgBouncer 1.21 does with max_prepared_statements, which is not set here.
    options = {"prepare_threshold": 0, "server_side_binding": True}
    with pooler(pool_size=1) as place, behind(place, **options):
        connections[db.alias].ensure_connection()
        other = connections[db.alias].copy()
        with pytest.raises(ProgrammingError, match="already exists"):
            for connection in (connections[db.alias], other):
                rows(connection.cursor(), "SELECT 1")
        other.close()


@PREPARING
def test_threads_that_share_connections_to_the_server_enqueue(place, db, options):
    def enqueue():
        for _ in range(10):
            note.enqueue()

    with behind(place, **options):
        together([enqueue] * 3)

    assert counts(db) == {"ready": 30}


@PREPARING
def test_the_dashboard_behind_a_pooler_shows_and_acts(place, db, options):
    client = staff("operator", "view_dashboard", *ACTIONS.values())
    store(db, queue_name="mail")
    store(db, count=3, run_after=NOW)

    with behind(place, **options):
        for page in ("", "jobs/", "queues/mail/ready/", "stats.json"):
            assert client.get(f"{ROOT}default/{page}").status_code == 200
        act = {"action": "pause", "queue": "mail"}
        assert client.post(f"{ROOT}default/act/queue/", act).status_code == 302

    assert [row.queue_name for row in db.objects(Pause)] == ["mail"]
