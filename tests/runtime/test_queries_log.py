"""With DEBUG Django keeps the statements of a connection: between jobs they are forgotten."""

import time
from threading import Event

import pytest
from django.db import connections

from dj_queue.compat import task_finished
from dj_queue.conf import WorkerOptions
from dj_queue.models import FinishedExecution
from dj_queue.routers import queue_database
from dj_queue.runtime.dispatcher import Dispatcher
from dj_queue.runtime.finisher import Finisher
from dj_queue.runtime.process import Heartbeat
from dj_queue.runtime.scheduler import Scheduler
from dj_queue.runtime.worker import Worker
from tests.jobs import EVERY, counts, store
from tests.runtime.finishing import outcomes_of
from tests.runtime.units import end, registered
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

COUNTING = "tests.shop.counting."


@pytest.fixture(autouse=True)
def debug(settings):
    """Let Django keep statements, also where a connection outlives a job."""
    settings.DEBUG = True
    ages = {alias: connections[alias].settings_dict["CONN_MAX_AGE"] for alias in connections}
    for alias in connections:
        connections.settings[alias]["CONN_MAX_AGE"] = None
    yield
    for alias, age in ages.items():
        connections.settings[alias]["CONN_MAX_AGE"] = age


def kept():
    """Count the statements that this thread's connections keep."""
    return sum(len(each.queries_log) for each in connections.all(initialized_only=True))


@pytest.mark.parametrize(("task", "concurrency"), [("count", 0), ("count_later", 2)])
def test_a_job_finds_none_of_the_statements_of_those_before(db, task, concurrency):
    options = WorkerOptions(threads=1, concurrency=concurrency, polling_interval=0.01)
    worker = Worker(registered(db, options), options, Finisher(db))
    store(db, count=5, task_path=f"{COUNTING}{task}", args=[])

    worker.finisher.start()
    worker.start()
    until(lambda: counts(db) == {"finished": 5})
    worker.stop()
    worker.join(30)
    end(worker)

    found = db.objects(FinishedExecution).values_list("return_value", flat=True)
    assert list(found) == [0] * 5


def test_the_finisher_keeps_none_of_its_own(db):
    finisher, found = Finisher(db), []

    def look(**_):
        found.append(kept())

    task_finished.connect(look)
    try:
        finisher.start()
        for outcome in outcomes_of(db, 5):
            finisher.hand_in(outcome)
            until(lambda: not finisher.pending_count)
        finisher.stop(time.monotonic() + 10)
        finisher.join(30)
    finally:
        task_finished.disconnect(look)

    assert len(found) == 5
    assert set(found) == {0}


@pytest.mark.parametrize("kind", [Dispatcher, Scheduler])
def test_a_poller_keeps_none_of_its_own(kind):
    poller = kind(registered(queue_database("default")))

    poller._poll_once()

    assert kept() == 0


def test_a_heart_keeps_none_of_its_own(monkeypatch):
    heartbeat = Heartbeat([registered(queue_database("default"))])
    heartbeat.interval, found, beat, is_over = 0.001, [], heartbeat.beat, Event()

    def beat_and_look():
        found.append(kept())
        if len(found) == 3:
            is_over.set()
        beat()

    monkeypatch.setattr(heartbeat, "beat", beat_and_look)
    heartbeat.start()
    assert is_over.wait(30)
    heartbeat.stop()
    heartbeat.join(30)

    assert set(found) == {0}
