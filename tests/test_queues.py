"""Queue: size, latency, pause, resume and clear, on the backend's own database."""

from datetime import timedelta

import pytest
from django.utils import timezone

from dj_queue.exceptions import NotMigrated, UnknownBackend
from dj_queue.models import Pause, ReadyExecution
from dj_queue.operations.claim import claim
from dj_queue.queues import Queue
from dj_queue.routers import queue_database
from tests.jobs import EVERY, LATER, ME, NOW, counts, store

pytestmark = pytest.mark.django_db(**EVERY)


def test_size_and_latency_are_about_the_backends_ready_jobs():
    now = timezone.now()
    for backend, count in (("default", 2), ("alerts", 3), ("bulk", 4)):
        db = queue_database(backend)
        store(db, count, queue_name="mail", enqueued_at=now - timedelta(minutes=count))
        store(db, queue_name="post", enqueued_at=now - timedelta(days=1))
        store(db, queue_name="mail", run_after=LATER)

    queues = {backend: Queue("mail", backend=backend) for backend in ("default", "alerts", "bulk")}

    assert {name: queue.size() for name, queue in queues.items()} == {
        "default": 2,
        "alerts": 3,
        "bulk": 4,
    }
    assert {name: queue.latency() // 60 for name, queue in queues.items()} == {
        "default": 2,
        "alerts": 3,
        "bulk": 4,
    }
    assert (Queue("none").size(), Queue("none").latency()) == (0, 0.0)


def test_a_pause_concerns_every_backend_on_the_database():
    store(queue_database("alerts"), queue_name="mail")

    Queue("mail").pause()
    Queue("mail").pause()

    assert Queue("mail", backend="alerts").is_paused()
    assert not Queue("mail", backend="bulk").is_paused()
    assert claim(queue_database("alerts"), ["*"], limit=1, process_id=ME, now=NOW) == []
    assert (Queue("mail").resume(), Queue("mail").resume()) == (True, False)
    assert not queue_database("default").objects(Pause).exists()


def test_clear_discards_the_backends_own_jobs():
    db = queue_database("default")
    store(db, 3, queue_name="mail")
    store(queue_database("alerts"), 2, queue_name="mail")

    assert (Queue("mail").clear(), Queue("mail").clear()) == (3, 0)
    assert counts(db) == {"ready": 2}
    assert {row.backend for row in db.objects(ReadyExecution)} == {"alerts"}


def test_a_backend_that_is_not_ours_is_refused():
    with pytest.raises(UnknownBackend):
        Queue("mail", backend="nobody").size()


def test_missing_tables_are_named(settings):
    # The application's database has none of ours.
    own = {**settings.TASKS["bulk"], "OPTIONS": {"database_alias": "default"}}
    settings.TASKS = {**settings.TASKS, "bulk": own}
    queue = Queue("mail", backend="bulk")

    for ask in (queue.size, queue.latency, queue.is_paused, queue.clear):
        with pytest.raises(NotMigrated, match="dj_queue_migrate"), queue.database.atomic():
            ask()
