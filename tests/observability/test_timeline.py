"""A job's timeline, and the last hour and day of its queue."""

from datetime import timedelta

import pytest

from dj_queue.models import STATES, Attempt, FailedExecution, FinishedExecution, QueueMinute
from dj_queue.models.ids import new_id
from dj_queue.observability.minutes import DAY, HOUR, read_series
from dj_queue.observability.timeline import timeline_of
from dj_queue.routers import queue_database
from tests.jobs import EVERY, LATER, ME, NOW, in_state, sibling_of, store

pytestmark = pytest.mark.django_db(**EVERY)


def attempt(db, job, number, **columns):
    defaults = {
        "job_id": job.id,
        "worker_id": ME,
        "started_at": NOW + timedelta(minutes=number),
        "ended_at": NOW + timedelta(minutes=number, seconds=3),
        "exception_path": "builtins.KeyError",
        "message": "'total'",
        "traceback": "Traceback …",
    }
    db.objects(Attempt).bulk_create([Attempt(number=number, **defaults | columns)])


@pytest.mark.parametrize("state", STATES)
def test_a_timeline_ends_where_the_job_is(db, state):
    (job,) = in_state(db, state)

    timeline = timeline_of(db, job.id)

    assert timeline.state == state.state
    assert timeline.events[0].what == "enqueued"
    assert timeline.events[-1].what == state.state


def test_a_timeline_tells_the_attempts_in_order(db):
    (job,) = in_state(db, FinishedExecution, run_after=NOW + timedelta(seconds=30))
    attempt(db, job, 2)
    attempt(db, job, 1)

    timeline = timeline_of(db, job.id)

    assert [event.what for event in timeline.events] == [
        "enqueued",
        "due",
        "attempt 1 failed",
        "attempt 2 failed",
        "started",
        "finished",
    ]
    assert [event.seconds for event in timeline.events if event.seconds] == [3, 3, 3600]


def test_a_failed_job_fails_once_in_its_timeline(db):
    (job,) = in_state(db, FailedExecution)
    attempt(db, job, 1)

    assert [event.what for event in timeline_of(db, job.id).events] == [
        "enqueued",
        "attempt 1 failed",
    ]


def test_a_sibling_has_no_part_in_it(db):
    (job,) = store(sibling_of(db))

    assert timeline_of(db, job.id) is None
    assert timeline_of(db, new_id()) is None


def minute(db, at, queue="mail", **numbers):
    row = QueueMinute(
        backend=db.backend, queue_name=queue, minute=at, process_id=new_id(), **numbers
    )
    db.objects(QueueMinute).bulk_create([row])


def test_the_last_hour_is_made_of_minutes(db):
    minute(db, NOW, finished=3, failed=1, waiting_seconds=8)
    minute(db, NOW, finished=1, waiting_seconds=2)
    minute(db, NOW - timedelta(minutes=59), queue="post", failed=2)
    minute(db, NOW - timedelta(minutes=60), finished=100)
    minute(sibling_of(db), NOW, finished=100)

    together, queues = read_series(db, HOUR, now=NOW + timedelta(seconds=30))

    assert len(together.steps) == 60
    first, last = together.steps[0], together.steps[-1]
    assert (first.at, first.failed, first.latency_seconds) == (NOW - timedelta(minutes=59), 2, 0)
    assert (last.at, last.finished, last.failed, last.latency_seconds) == (NOW, 4, 1, 2)
    assert together.steps[1].latency_seconds is None
    assert [(each.queue, each.ended_count) for each in queues] == [("mail", 5), ("post", 2)]


def test_the_last_day_is_made_of_hours(db):
    minute(db, LATER + timedelta(minutes=7), finished=2)
    minute(db, LATER + timedelta(minutes=59), finished=3)
    minute(db, LATER - timedelta(hours=23), finished=5)
    minute(db, LATER - timedelta(hours=23, minutes=1), finished=100)

    together, queues = read_series(db, DAY, now=LATER + timedelta(minutes=59), queue="mail")

    assert [step.finished for step in together.steps] == [5, *[0] * 22, 5]
    assert read_series(db, DAY, now=LATER, queue="post") == (together_of_nothing(db), [])
    assert [each.queue for each in queues] == ["mail"]


def together_of_nothing(db):
    together, _ = read_series(db, DAY, now=LATER, queue="none")
    return type(together)("post", DAY, together.steps)


def test_nothing_ended_is_no_series():
    together, queues = read_series(queue_database("bulk"), HOUR, now=NOW)

    assert (together.ended_count, queues) == (0, [])
