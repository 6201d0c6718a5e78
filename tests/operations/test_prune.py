"""Pruning: old jobs go, with all that was recorded of them; nothing else does."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from dj_queue.models import (
    Attempt,
    FailedExecution,
    FinishedExecution,
    Job,
    QueueMinute,
    RecurringRun,
)
from dj_queue.models.ids import first_id_at, new_id
from dj_queue.operations.claim import claim
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import finish
from dj_queue.operations.prune import prune_ended, prune_minutes, prune_runs
from dj_queue.operations.retry import retry
from dj_queue.routers import QueueDatabase, queue_database
from dj_queue.runtime.pruner import STEP_SIZE, Pruner
from tests.jobs import EVERY, ME, counts, states, store
from tests.listening import options_of

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

SOON = timedelta(seconds=1)


def end(db: QueueDatabase, at: datetime, count: int = 1, path: str = "add") -> list[Job]:
    """Run jobs that end at that time."""
    args = [1, 2] if path == "add" else ["x"]
    jobs = store(db, count=count, task_path=f"tests.shop.tasks.{path}", args=args)
    claimed = claim(db, ["*"], limit=count, process_id=ME, now=at)
    finish(db, [execute(db, row, clock=lambda: at) for row in claimed])
    return jobs


def walk(db: QueueDatabase, state: type, before: datetime, limit: int = 3) -> list[int]:
    """Go once over the table; give how many each step removed."""
    removed, after_id = [], None
    while True:
        step = prune_ended(db, state, before=before, after_id=after_id, limit=limit)
        removed.append(step.removed_count)
        after_id = step.last_id
        if after_id is None:
            return removed


def test_finished_jobs_that_are_old_go_and_younger_ones_stay(db):
    now = datetime.now(UTC) + timedelta(hours=1)
    end(db, now - timedelta(minutes=40), count=4)
    young = end(db, now - timedelta(minutes=20), count=2)

    removed = walk(db, FinishedExecution, now - timedelta(minutes=30))

    assert removed == [3, 1, 0]
    assert states(db) == {job.id: ["finished"] for job in young}


def test_a_job_that_waited_for_long_and_ended_now_stays(db):
    # Its id is old: the walk passes it.
    [waiting] = store(db)
    db.objects(Job).update(enqueued_at=datetime(2020, 1, 1, tzinfo=UTC))
    [row] = claim(db, ["*"], limit=1, process_id=ME, now=datetime.now(UTC))
    at = datetime.now(UTC) + timedelta(hours=1)
    finish(db, [execute(db, row, clock=lambda: at)])

    assert walk(db, FinishedExecution, at - SOON) == [0]
    assert states(db) == {waiting.id: ["finished"]}


def test_failed_jobs_go_with_their_attempts(db):
    at = datetime.now(UTC)
    end(db, at, path="fail")
    [young] = end(db, at + timedelta(hours=2), path="fail")

    assert walk(db, FailedExecution, at + timedelta(hours=1)) == [1]

    assert states(db) == {young.id: ["failed"]}
    assert [attempt.job_id for attempt in db.objects(Attempt)] == [young.id]


def test_a_job_that_is_retried_meanwhile_is_left_alone(db, monkeypatch):
    # The retry commits when the step has seen the row and has not taken it.
    at = datetime.now(UTC)
    [job] = end(db, at, path="fail")
    retry(db, [job.id])

    step = prune_ended(db, FailedExecution, before=at + timedelta(hours=1), after_id=None, limit=10)

    assert step.removed_count == 0
    assert states(db) == {job.id: ["ready"]}


def test_another_backends_jobs_on_the_same_database_stay():
    at = datetime.now(UTC)
    end(queue_database("alerts"), at, count=2)

    removed = walk(queue_database("default"), FinishedExecution, at + timedelta(hours=1), limit=10)

    assert removed == [0]
    assert counts(queue_database("alerts")) == {"finished": 2}


def test_minutes_and_runs_go_up_to_a_limit(db):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    days = [now - timedelta(days=day) for day in range(5)]
    db.objects(QueueMinute).bulk_create(
        QueueMinute(backend=db.backend, queue_name="a", minute=day, process_id=ME) for day in days
    )
    db.objects(RecurringRun).bulk_create(RecurringRun(task_id=ME, run_at=day) for day in days)

    before = now - timedelta(days=1.5)
    minutes = [prune_minutes(db, before=before, limit=2) for _ in range(3)]
    runs = [prune_runs(db, before=before, limit=2) for _ in range(3)]

    assert (minutes, runs) == ([2, 1, 0], [2, 1, 0])
    assert db.objects(QueueMinute).count() == db.objects(RecurringRun).count() == 2


def test_the_pruner_says_whether_there_is_more_and_begins_again_at_the_end(db, settings):
    at = datetime.now(UTC) - timedelta(hours=1)
    with options_of(settings, db.backend, clear_finished_jobs_after=60):
        pruner = Pruner(db)
        end(db, at, count=STEP_SIZE + 1)

        age(db)
        steps = [pruner.step(), pruner.step(), pruner.step()]
        end(db, at)
        age(db)
        again = pruner.step()

    assert (steps, again) == ([True, False, False], False)
    assert counts(db) == {}


def age(db: QueueDatabase) -> None:
    """Give the finished jobs ids of an hour ago: an id tells when its job was enqueued."""
    old = first_id_at(datetime.now(UTC) - timedelta(hours=1)).int
    for number, row in enumerate(db.objects(FinishedExecution).order_by("job_id")):
        job_id = UUID(int=old + number + new_id().int % 2**60)
        db.objects(FinishedExecution).filter(pk=row.pk).update(job_id=job_id)
        db.objects(Job).filter(pk=row.pk).update(id=job_id)


def test_a_backend_that_keeps_everything_removes_nothing(db, settings):
    end(db, datetime.now(UTC) - timedelta(days=900))
    with options_of(settings, db.backend, clear_finished_jobs_after=None):
        assert Pruner(db).step() is False

    assert counts(db) == {"finished": 1}


def test_ids_made_before_a_moment_are_below_its_bound():
    before = new_id()
    bound = first_id_at(datetime.now(UTC) + SOON)

    assert first_id_at(datetime.now(UTC) - SOON) < before < bound
