"""Dispatch: due jobs become ready."""

from datetime import timedelta

import pytest

from dj_queue.operations.dispatch import dispatch_due
from dj_queue.operations.enqueue import enqueue
from dj_queue.routers import QueueDatabase
from tests.jobs import EVERY, NOW, build, counts, states

pytestmark = pytest.mark.django_db(**EVERY)


def schedule(db, *minutes):
    jobs = [build(db, run_after=NOW + timedelta(minutes=each), priority=3) for each in minutes]
    enqueue(db, jobs, now=NOW)
    return jobs


def test_due_jobs_become_ready_and_the_others_wait(db):
    due, later = schedule(db, 5, 6)

    assert dispatch_due(db, now=NOW + timedelta(minutes=5), limit=10) == 1

    assert states(db) == {due.id: ["ready"], later.id: ["scheduled"]}


def test_a_batch_takes_the_longest_overdue_first(db):
    jobs = schedule(db, 3, 1, 2)

    assert dispatch_due(db, now=NOW + timedelta(hours=1), limit=2) == 2

    assert [states(db)[job.id] for job in jobs] == [["scheduled"], ["ready"], ["ready"]]


def test_nothing_due_is_nothing_done(db):
    schedule(db, 1)

    assert dispatch_due(db, now=NOW, limit=10) == 0
    assert counts(db) == {"scheduled": 1}


def test_a_batch_takes_the_highest_priority_among_the_longest_overdue(db):
    low = schedule(db, 1, 2, 3, 4)
    high, beyond = [
        build(db, run_after=NOW + timedelta(minutes=minutes), priority=9) for minutes in (8, 9)
    ]
    schedule(db, 5, 6, 7)
    enqueue(db, [high, beyond], now=NOW)
    later = NOW + timedelta(hours=1)

    # Eight jobs are looked at for a batch of two: `beyond` is the ninth.
    batches = []
    for _ in range(2):
        before = states(db)
        assert dispatch_due(db, now=later, limit=2) == 2
        after = states(db)
        batches.append({job_id for job_id in after if after[job_id] != before[job_id]})

    assert batches == [{high.id, low[0].id}, {beyond.id, low[1].id}]


def test_other_backends_jobs_are_left_to_their_dispatcher(db, settings):
    settings.TASKS = {**settings.TASKS, "neighbour": settings.TASKS[db.backend]}
    neighbour = QueueDatabase(alias=db.alias, backend="neighbour")
    job = build(db, backend="neighbour", run_after=NOW + timedelta(minutes=1))
    enqueue(neighbour, [job], now=NOW)

    assert dispatch_due(db, now=NOW + timedelta(hours=1), limit=10) == 0
    assert dispatch_due(neighbour, now=NOW + timedelta(hours=1), limit=10) == 1
