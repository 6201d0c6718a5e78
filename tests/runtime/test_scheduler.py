"""The scheduler: when it synchronises, what it tells, and how long it waits."""

from datetime import timedelta

import pytest
from django.db import OperationalError

from dj_queue.models import RecurringTask
from dj_queue.routers import QueueDatabase, queue_database
from dj_queue.runtime import scheduler as module
from dj_queue.runtime.scheduler import Scheduler
from tests.jobs import EVERY, NOW
from tests.recurring import changing, put, runs, tasks
from tests.runtime.units import registered

pytestmark = pytest.mark.django_db(**EVERY)

NIGHTLY = {"task_path": "tests.shop.tasks.add", "schedule": "0 3 * * *", "args": [1, 2]}


@pytest.fixture
def at(monkeypatch):
    """Give a function that sets the scheduler's time."""

    def at(moment):
        monkeypatch.setattr(module, "present", lambda db: moment)

    at(NOW)
    return at


def test_it_waits_for_the_next_instant_but_not_longer_than_its_interval(db, at):
    scheduler = Scheduler(registered(db))
    assert scheduler.poll() == 5

    put(db, next_run_at=NOW + timedelta(seconds=2))
    assert scheduler.poll() == 2

    at(NOW + timedelta(seconds=2))
    db.objects(RecurringTask).update(schedule="* * * * * */3")
    assert scheduler.poll() == 1
    assert runs(db) == [NOW + timedelta(seconds=2)]


def test_it_comes_again_at_once_while_more_is_due(db, at, monkeypatch):
    monkeypatch.setattr(module, "BATCH_SIZE", 2)
    for number in range(3):
        put(db, f"t{number}")
    scheduler = Scheduler(registered(db))

    assert [scheduler.poll(), scheduler.poll()] == [0, 5]
    assert runs(db) == [NOW] * 3


def test_the_first_poll_synchronises_all_our_backends_on_the_database(at, settings, events):
    alerts = queue_database("alerts")
    put(alerts, "stale", is_static=True)
    put(queue_database("bulk"), "theirs", is_static=True)
    put(QueueDatabase(alias="queue", backend="stranger"))
    changing(settings, "default")(recurring={"nightly": NIGHTLY})
    scheduler = Scheduler(registered(queue_database("default")))

    scheduler.poll()
    changing(settings, "default")(recurring={})
    scheduler.poll()

    assert set(tasks(queue_database("default"))) == {"nightly"}
    assert set(tasks(alerts)) == set()
    assert set(tasks(queue_database("bulk"))) == {"theirs"}
    where = {"database": "queue"}
    assert events() == [
        (
            "recurring_synchronised",
            {"backend": "default", **where, "inserted": 1, "updated": 0, "deleted": 0},
        ),
        (
            "recurring_synchronised",
            {"backend": "alerts", **where, "inserted": 0, "updated": 0, "deleted": 1},
        ),
        ("recurring_stranded", {"backend": "stranger", **where, "count": 1}),
    ]


def test_a_synchronisation_that_failed_is_tried_again(db, at, settings, monkeypatch):
    changing(settings, db.backend)(recurring={"nightly": NIGHTLY})
    scheduler = Scheduler(registered(db))

    with monkeypatch.context() as patch:

        def away(*_, **__):
            raise OperationalError("gone")

        patch.setattr(module, "synchronise", away)
        with pytest.raises(OperationalError):
            scheduler.poll()
    scheduler.poll()

    assert set(tasks(db)) == {"nightly"}


def test_it_tells_what_fired_what_was_missed_and_what_cannot_be_read(db, at, settings, events):
    changing(settings, db.backend)(recurring={"bad": {**NIGHTLY, "schedule": "0 3 * *"}})
    put(db, "broken", schedule="no")
    put(db, "late", schedule="0 * * * *")
    at(NOW + timedelta(hours=2, seconds=1))
    scheduler = Scheduler(registered(db))

    scheduler.poll()
    scheduler.poll()

    where = {"backend": db.backend, "database": db.alias}
    told = [(name, payload) for name, payload in events() if name.startswith("recurring_")]
    assert [(name, payload["key"]) for name, payload in told] == [
        ("recurring_refused", "bad"),
        ("recurring_fired", "late"),
        ("recurring_missed", "late"),
        ("recurring_refused", "broken"),
    ]
    assert told[1][1] == {**where, "key": "late", "count": 1}
    assert told[2][1] == {**where, "key": "late", "since": "2026-01-01T12:00:00+00:00"}
    assert "croniter takes" in told[3][1]["error"]
