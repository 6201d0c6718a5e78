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
