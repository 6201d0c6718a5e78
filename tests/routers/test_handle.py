"""The handles: the values that say which database, and which backend on it, code works on."""

import pickle
from dataclasses import FrozenInstanceError

import pytest
from django.db import connections

from dj_queue.exceptions import UnknownBackend
from dj_queue.models import Pause
from dj_queue.routers import Database, QueueDatabase, queue_database, use_backend
from tests.jobs import EVERY, NOW
from tests.routers.conftest import backend

BOTH = pytest.mark.parametrize("name", ["default", "bulk"])


def test_it_knows_backend_alias_options_and_vendor(vendor_by_alias):
    db = queue_database("alerts")

    assert (db.backend, db.alias, str(db)) == ("alerts", "queue", "alerts@queue")
    assert db.options.database_alias == "queue"
    assert db.vendor == vendor_by_alias["queue"].replace("mariadb", "mysql")
    assert queue_database() == queue_database("default")


def test_a_database_gives_the_handles_of_its_backends_and_of_no_other():
    database = Database("queue")

    assert database.backends == ("default", "alerts")
    assert database.for_backend("alerts") == queue_database("alerts")
    assert queue_database("alerts").for_backend("default") == queue_database("default")
    with pytest.raises(UnknownBackend, match=r"'queue' \('default', 'alerts'\), got 'bulk'"):
        database.for_backend("bulk")


def test_a_database_is_none_of_its_backends():
    assert Database("queue") != queue_database("default")
    assert isinstance(queue_database("default"), Database)
    assert pickle.loads(pickle.dumps(Database("queue"))) == Database("queue")


def test_it_is_frozen_and_equal_by_value():
    db = queue_database("bulk")

    with pytest.raises(FrozenInstanceError):
        db.alias = "queue"
    assert {db: 1}[queue_database("bulk")] == 1
    assert db != queue_database("default")
    assert queue_database("default") != queue_database("alerts")


def test_it_is_pickled_by_the_name_of_its_backend(tasks):
    stored = pickle.dumps(queue_database("bulk"))
    assert pickle.loads(stored) == queue_database("bulk")

    tasks(bulk=backend("queue"))
    assert pickle.loads(stored) == QueueDatabase(alias="queue", backend="bulk")

    tasks(default=backend("queue"))
    with pytest.raises(UnknownBackend, match="got 'bulk'"):
        pickle.loads(stored)


@BOTH
def test_only_its_own_alias_has_the_same_connection(name):
    db = queue_database(name)

    assert [alias for alias in connections if db.same_connection_as(alias)] == [db.alias]


@BOTH
@pytest.mark.django_db(**EVERY)
def test_objects_stay_on_its_database_inside_any_context(name):
    db, other = queue_database("default"), queue_database("bulk")
    db.objects(Pause).create(queue_name="here", paused_at=NOW)

    with use_backend(name):
        assert db.objects(Pause).get().queue_name == "here"
        assert not other.objects(Pause).exists()


@BOTH
@pytest.mark.django_db(**EVERY)
def test_atomic_rolls_back_its_own_database_only(name):
    handles = [queue_database("default"), queue_database("bulk")]

    with pytest.raises(ZeroDivisionError), queue_database(name).atomic():
        for db in handles:
            db.objects(Pause).create(queue_name="q", paused_at=NOW)
        _ = 1 / 0

    assert [db.objects(Pause).exists() for db in handles] == [name == "bulk", name == "default"]


@BOTH
@pytest.mark.django_db(**EVERY)
def test_on_commit_waits_for_its_own_database_only(name, django_capture_on_commit_callbacks):
    db, called = queue_database(name), []
    capture = django_capture_on_commit_callbacks

    with capture(using="default", execute=True) as foreign, capture(using=db.alias) as own:
        db.on_commit(lambda: called.append(1))

    assert (len(foreign), len(own), called) == (0, 1, [])


@pytest.mark.django_db(transaction=True, **EVERY)
def test_it_knows_whether_its_own_transaction_is_open():
    db, other = queue_database("default"), queue_database("bulk")

    with other.atomic():
        assert not db.in_transaction
        with db.atomic():
            assert db.in_transaction
            assert not connections["default"].in_atomic_block
    assert not db.in_transaction


@BOTH
@pytest.mark.django_db(**EVERY)
def test_a_cursor_is_on_its_database(name):
    db = queue_database(name)

    with db.cursor() as cursor:
        assert cursor.db.alias == db.alias
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
