"""Statements as psycopg sends them when values are not put into the text, and when it prepares."""

from collections.abc import Iterator

import pytest
from django.db import IntegrityError

from dj_queue.engines.claims import Heir, Holder
from dj_queue.models import FinishedExecution, Job
from dj_queue.models.ids import new_id
from dj_queue.operations.claim import claim, give_back
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import finish, finish_and_inherit
from dj_queue.operations.pauses import pause
from dj_queue.routers import QueueDatabase
from tests.jobs import EVERY, LATER, ME, NOW, build, counts, store
from tests.shop import tasks

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

OPTIONS = [
    {"server_side_binding": True},
    {"server_side_binding": True, "prepare_threshold": 0},
    {"prepare_threshold": 0},
]


@pytest.fixture
def needs_psycopg(db: QueueDatabase) -> None:
    if db.connection.settings_dict["ENGINE"] != "django.db.backends.postgresql":
        pytest.skip("needs psycopg: this driver binds in one way only")


@pytest.fixture(params=OPTIONS, ids=str)
def bound(db: QueueDatabase, needs_psycopg: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """Connect anew with other OPTIONS."""
    if len(request.param) == 2:  # Then Django prepares its own statements.
        request.getfixturevalue("needs_own_session")
    before = db.connection.settings_dict["OPTIONS"]
    db.connection.close()
    db.connection.settings_dict["OPTIONS"] = {**before, **request.param}
    yield
    db.connection.close()
    db.connection.settings_dict["OPTIONS"] = before


@pytest.mark.usefixtures("bound")
def test_jobs_go_their_way_whatever_binds_the_values(db):
    pause(db, ["paused"], now=NOW)
    for number in range(10):  # A prepared statement gets a generic plan after the fifth.
        tasks.echo.using(backend=db.backend, queue_name="x1").enqueue(number)
        tasks.echo.using(backend=db.backend, queue_name="y").enqueue(number)
    store(db, run_after=LATER)
    store(db, count=3, queue_name="paused")
    store(db, count=2, queue_name="a", task_path="tests.shop.tasks.echo", args=[{"ü": None}])

    for selectors in (["a", "none"], ["x*", "y"], ["*"]) * 4:
        rows = claim(db, selectors, limit=2, process_id=ME, now=NOW)
        outcomes = [execute(db, row, clock=lambda: NOW) for row in rows]
        assert finish(db, outcomes) == outcomes

    assert db.objects(FinishedExecution).filter(queue_name="a").count() == 2
    assert counts(db) == {"ready": 3 + 4, "scheduled": 1, "finished": 18}


@pytest.mark.usefixtures("bound")
def test_slots_are_handed_on_whatever_binds_the_values(db):
    rule = {"concurrency_limit": 1, "concurrency_seconds": 60, "discards_on_conflict": False}
    enqueue(db, [build(db, concurrency_key=f"k{n % 2}", **rule) for n in range(26)], now=NOW)

    for number in range(12):
        rows = claim(db, ["*"], limit=2, process_id=ME, now=NOW)
        outcomes = [execute(db, row, clock=lambda: NOW) for row in rows]
        queues = frozenset({"default"} if number % 2 else ())
        heir = Heir(Holder(ME, new_id(), NOW), queues, room=2)
        recorded, handed = finish_and_inherit(db, outcomes, heir)
        assert (len(recorded), handed.count) == (2, 2)
        assert len(handed.inherited) == 2 * len(queues)
        give_back(db, handed.inherited)

    assert counts(db) == {"finished": 24, "ready": 2}


def test_an_enqueue_is_prepared_where_the_options_say_so(db, needs_psycopg, needs_own_session):
    task = tasks.add.using(backend=db.backend)
    prepared = {}

    for threshold in (None, 0):
        db.connection.close()
        db.connection.settings_dict["OPTIONS"]["prepare_threshold"] = threshold
        task.enqueue(1, 2)
        with db.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_prepared_statements")
            prepared[threshold] = cursor.fetchone()[0]

    db.connection.close()
    del db.connection.settings_dict["OPTIONS"]["prepare_threshold"]
    assert prepared == {None: 0, 0: 1}


@pytest.mark.usefixtures("needs_own_session", "bound")
def test_an_enqueue_replaces_a_connection_that_the_server_ended(db, monkeypatch):
    # Where health checks are on: as Django does at the first statement of a request.
    for name, value in {"CONN_HEALTH_CHECKS": True, "CONN_MAX_AGE": None}.items():
        monkeypatch.setitem(db.connection.settings_dict, name, value)
    store(db)
    with db.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        ended = cursor.fetchone()
    other = db.connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 20000)", ended)
        assert cursor.fetchone() == (True,)
    other.close()
    db.connection.close_if_unusable_or_obsolete()  # A request begins.
    assert db.connection.connection is not None

    store(db)

    assert counts(db) == {"ready": 2}


@pytest.mark.usefixtures("bound")
def test_an_enqueue_goes_on_after_one_that_failed(db):
    [known] = store(db)

    with pytest.raises(IntegrityError):
        enqueue(db, [build(db, id=known.id)], now=NOW)
    enqueue(db, [build(db, run_after=LATER)], now=NOW)
    store(db)

    assert counts(db) == {"ready": 2, "scheduled": 1}


@pytest.mark.usefixtures("bound")
def test_a_bulk_of_unlike_jobs_is_stored_as_it_is(db):
    jobs = [
        build(db, queue_name=f"q{n % 2}", priority=n, kwargs={"n": n}, run_after=LATER)
        for n in range(3)
    ]
    jobs += [build(db, args=[]), build(db, task_path="tests.shop.tasks.echo")]

    enqueue(db, jobs, now=NOW)

    assert counts(db) == {"ready": 2, "scheduled": 3}


def test_arguments_that_only_look_alike_to_python_stay_apart(db):
    values = [1, True, 1.0, {"a": 1, "b": 2}, {"b": 2, "a": 1}]

    enqueue(db, [build(db, args=[value]) for value in values], now=NOW)

    stored = db.objects(Job).order_by("id").values_list("args", flat=True)
    assert [repr(args) for args in stored] == [repr([value]) for value in values]
