"""The listening connection: private, and an error of Django's when it breaks."""

import pytest
from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connections,
)

from dj_queue.engines import engine_for, notifications
from dj_queue.engines.notifications import Listening, can_listen
from dj_queue.engines.postgresql import PostgreSQLEngine
from dj_queue.routers import QueueDatabase
from tests.jobs import EVERY
from tests.listening import count_listeners, end_listeners, options_of, until_gone

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

SECONDS = 20


def wake(db: QueueDatabase, *queues: str) -> None:
    with db.atomic():  # There nothing is suppressed, and all is told at once.
        for queue in queues:
            engine_for(db).wake(db, [queue])


def test_all_that_is_there_is_heard_at_once(db, listening):
    wake(db, "a", "b")

    assert {wake.queues for wake in listening.wait(SECONDS)} == {frozenset("a"), frozenset("b")}


def test_silence_is_heard_as_nothing(listening):
    assert listening.wait(0) == listening.wait(0.01) == []


def test_a_backend_that_is_told_not_to_does_not_listen(db, needs_notifications, settings):
    with options_of(settings, db.backend, listen_notify=False):
        assert engine_for(db).listen(db) is None


@pytest.mark.parametrize("version", ["2.9.10 (dt dec pq3 ext lo64)", "3.1.20"])
def test_a_driver_that_cannot_wait_does_not_listen(db, needs_notifications, monkeypatch, version):
    monkeypatch.setattr(db.connection.Database, "__version__", version)

    assert engine_for(db).listen(db) is None


@pytest.mark.parametrize("version", ["3.2", "3.10.0.dev1"])
def test_a_driver_that_can_wait_listens(db, needs_notifications, monkeypatch, version):
    monkeypatch.setattr(db.connection.Database, "__version__", version)

    assert can_listen(db)


def test_an_ended_connection_is_an_error_of_django(db, listening):
    end_listeners(db)

    with pytest.raises((OperationalError, InterfaceError)):
        for _ in range(3):  # The server says goodbye first.
            listening.wait(SECONDS)
    with pytest.raises((OperationalError, InterfaceError)):
        listening.wait(SECONDS)
    listening.close()
    listening.close()


def test_a_server_that_cannot_be_reached_is_an_error_of_django(db, needs_notifications):
    config = db.connection.settings_dict
    before = config["PORT"]
    config["PORT"] = "1"
    try:
        with pytest.raises(DatabaseError):
            Listening(db)
    finally:
        config["PORT"] = before


def test_the_connection_ends_with_close(db, listening):
    assert count_listeners(db) == 1

    listening.close()

    until_gone(db)


def test_a_listen_that_is_refused_leaves_no_connection(db, needs_notifications, monkeypatch):
    monkeypatch.setattr(notifications, "CHANNEL", "no channel")

    with pytest.raises(DatabaseError):
        Listening(db)

    until_gone(db)


def test_the_connection_is_none_of_djangos_and_none_of_the_pools(
    db, needs_notifications, monkeypatch
):
    pytest.importorskip("psycopg_pool", reason="needs psycopg's pool")
    options = {"pool": {"min_size": 1, "max_size": 1, "timeout": SECONDS}}
    db.connection.close()
    monkeypatch.setitem(db.connection.settings_dict, "OPTIONS", options)
    monkeypatch.setitem(db.connection.settings_dict, "CONN_MAX_AGE", 0)
    db.connection.ensure_connection()
    assert db.connection.pool.get_stats()["pool_available"] == 0

    listening = Listening(db)  # Would wait for the pool's only connection, in vain.

    private = listening._connection
    wake(db, "a")
    heard = listening.wait(SECONDS)
    listening.close()
    db.connection.close()
    db.connection.close_pool()
    assert private not in connections.all()
    assert [each.queues for each in heard] == [frozenset("a")]
    assert options == {"pool": {"min_size": 1, "max_size": 1, "timeout": SECONDS}}


def test_the_connection_commits_by_itself_whatever_the_settings_say(
    db, needs_notifications, monkeypatch
):
    monkeypatch.setitem(db.connection.settings_dict, "AUTOCOMMIT", False)

    listening = Listening(db)

    is_autocommit = listening._connection.get_autocommit()
    listening.close()
    assert is_autocommit


def test_what_the_settings_say_of_the_connection_goes_first(db, needs_notifications, monkeypatch):
    options = {"application_name": "mine", "keepalives_idle": 7}
    monkeypatch.setitem(db.connection.settings_dict, "OPTIONS", options)

    listening = Listening(db)

    known = listening._connection.connection.info.get_parameters()
    listening.close()
    assert known["application_name"] == "mine"
    assert known["keepalives_idle"] == "7"
    assert known["keepalives_interval"] == "10"


def test_the_listening_alias_is_where_the_connection_leads(db, needs_notifications, settings):
    with options_of(settings, db.backend, listen_database_alias="default"):
        vendor = connections["default"].vendor
        assert can_listen(db) is (vendor == "postgresql")
        if not can_listen(db):
            return
        listening = engine_for(db).listen(db)

    assert listening is not None
    name = listening._connection.settings_dict["NAME"]
    listening.close()
    assert name == connections["default"].settings_dict["NAME"]


def test_a_listening_alias_that_does_not_exist_is_not_listened_on(
    db, needs_notifications, settings
):
    with options_of(settings, db.backend, listen_database_alias="nowhere"):
        assert engine_for(db).listen(db) is None


@pytest.mark.parametrize("name", ["sqlstate", "pgcode"])
def test_psycopg_and_psycopg2_name_the_code_of_an_error_differently(name):
    error, cause = ProgrammingError("no table"), Exception()
    setattr(cause, name, "42P01")
    error.__cause__ = cause

    assert PostgreSQLEngine().is_missing_table(error)
    assert not PostgreSQLEngine().is_transient(error)
