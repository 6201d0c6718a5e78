"""What is an outage, and that it is logged once."""

import os
import time

import pytest
from django.db import OperationalError

from dj_queue.routers import queue_database
from dj_queue.runtime import outage
from tests.jobs import EVERY
from tests.processes import sessions
from tests.races.together import together

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

GONE = OperationalError("gone")


@pytest.fixture
def db():
    db = queue_database("default")
    yield db
    end(db)


@pytest.fixture
def no_way(db, monkeypatch):
    """Let nobody connect to the queue database."""

    def refuse(*args):
        raise OperationalError("connection refused")

    db.connection.close()
    monkeypatch.setattr(type(db.connection), "get_new_connection", refuse)


def names(events):
    return [event for event, _ in events()]


def end(db):
    """Note that the database has answered just now."""
    outage.end(db, asked_at=time.monotonic())


def lose_connection(db):
    """Let the server end this thread's connection."""
    number = sessions.myself(db.alias)
    together([lambda: sessions.terminate(db.alias, number)])


def test_a_database_that_nobody_reaches_is_logged_once(db, no_way, events):
    outage.begin(db, GONE)
    outage.begin(db, GONE)

    assert events() == [("database_down", {"database": "queue", "error": repr(GONE)})]


def test_a_database_that_answers_and_refuses_is_away_as_well(db, events):
    # A full disk, or a server that only reads.
    db.connection.ensure_connection()

    outage.begin(db, OperationalError("the disk is full"))

    assert names(events) == ["database_down"]


def test_a_connection_that_was_lost_alone_is_no_outage(needs_server, needs_own_session, db, events):
    lose_connection(db)

    outage.begin(db, GONE)

    assert names(events) == []
    assert db.connection.is_usable()


def test_one_that_cannot_be_replaced_is(needs_server, needs_own_session, db, events, monkeypatch):
    lose_connection(db)

    def refuse(*args):
        raise OperationalError("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(type(db.connection), "get_new_connection", refuse)
        outage.begin(db, GONE)

    assert names(events) == ["database_down"]


def test_the_end_is_logged_once_and_says_how_long_it_was(db, no_way, events):
    outage.begin(db, GONE)

    end(db)
    end(db)

    assert names(events) == ["database_down", "database_up"]
    assert events()[1][1].keys() == {"database", "seconds"}


def test_what_was_asked_before_does_not_end_it(db, no_way, events):
    asked_at = time.monotonic()
    outage.begin(db, GONE)

    outage.end(db, asked_at=asked_at)

    assert names(events) == ["database_down"]
    end(db)
    assert names(events) == ["database_down", "database_up"]


def test_an_outage_of_one_database_is_not_that_of_another(db, no_way, events):
    other = queue_database("bulk")

    outage.begin(db, GONE)
    end(other)

    assert names(events) == ["database_down"]


def test_processes_that_were_forked_know_of_each_others(db, no_way, events):
    # The child notices first; whoever notices next is this process.
    pid = os.fork()
    if not pid:
        try:
            outage.begin(db, GONE)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)

    outage.begin(db, GONE)
    assert names(events) == []
    end(db)

    assert names(events) == ["database_up"]


def refused(state):
    """Give an error with PostgreSQL's code for what is the trouble."""
    error, error.__cause__ = OperationalError(state), Exception()
    error.__cause__.sqlstate = state
    return error


@pytest.fixture
def clock(db, monkeypatch):
    """Let seconds pass only when the test says so; the codes are PostgreSQL's."""
    monkeypatch.setattr(type(db), "vendor", "postgresql")
    now = [1000.0]
    monkeypatch.setattr(outage.time, "monotonic", lambda: now[0])

    def sleep(seconds):
        now[0] += seconds

    return sleep


FULL, READ_ONLY, BUSY = map(refused, ("53100", "25006", "57014"))


@pytest.mark.parametrize("error", [FULL, READ_ONLY], ids=str)
def test_a_read_does_not_end_an_outage_of_writes(db, clock, events, error):
    outage.begin(db, error)
    clock(3600)

    assert not outage.end(db, asked_at=time.monotonic(), has_written=False)
    assert outage.end(db, asked_at=time.monotonic())
    assert names(events)[1:] == ["database_writable"]


def test_what_others_can_do_all_the_time_ends_nothing(db, clock, events):
    # A heartbeat a second beside claims that time out.
    for _ in range(400):
        outage.begin(db, BUSY)
        clock(0.5)
        together([lambda: end(db)])
        clock(0.5)
    assert names(events) == ["database_busy"]

    clock(outage.QUIET_SECONDS)
    together([lambda: end(db)])

    assert names(events) == ["database_busy", "database_answers"]


def test_one_that_comes_and_goes_is_one(db, clock, no_way, events):
    # As many as 15 seconds had, before.
    for _ in range(413):
        outage.begin(db, GONE)
        clock(0.018)
        end(db)
        clock(0.018)
    clock(60)
    end(db)

    assert names(events) == ["database_down", "database_up"] * 2

    clock(3600)
    outage.begin(db, GONE)
    clock(0.01)
    end(db)
    assert names(events) == ["database_down", "database_up"] * 3


def test_two_troubles_at_once_have_a_line_each_way_each(db, clock, events):
    for error in (READ_ONLY, BUSY, READ_ONLY, BUSY):
        outage.begin(db, error)
    clock(60)
    end(db)

    assert names(events) == [
        *("database_read_only", "database_busy"),
        *("database_answers", "database_writable"),
    ]


def test_a_pool_does_not_give_out_a_connection_to_a_server_that_only_reads(
    needs_server, needs_own_session, db, events, monkeypatch
):
    # It may be the old primary, while the name leads to a new one.
    if db.vendor != "postgresql":
        pytest.skip("needs a pool of Django's: this database has none")
    connection = db.connection.copy()
    pooled = {**connection.settings_dict, "OPTIONS": {"pool": {"min_size": 1, "max_size": 1}}}
    monkeypatch.setattr(connection, "settings_dict", pooled)
    monkeypatch.setattr(type(db), "connection", connection)
    try:
        before = session_of(connection)
        connection.close()
        assert session_of(connection) == before

        outage.begin(db, READ_ONLY)
        connection.close()

        assert session_of(connection) != before
    finally:
        connection.close()
        connection.close_pool()


def session_of(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]
