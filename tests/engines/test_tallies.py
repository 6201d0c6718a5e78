"""Counting by queue: every queue, up to the cap, of this backend alone."""

from datetime import timedelta

import pytest

from dj_queue.engines import engine_for
from dj_queue.engines.tallies import Count, longest_waiting, queues_by_state, tally
from dj_queue.models import (
    ClaimedExecution,
    FinishedExecution,
    Job,
    ReadyExecution,
    ScheduledExecution,
    state_of,
)
from dj_queue.operations.claim import claim
from dj_queue.operations.enqueue import enqueue
from tests.engines import reading
from tests.jobs import EVERY, LATER, ME, NOW, build, sibling_of, store

pytestmark = pytest.mark.django_db(**EVERY)


def test_each_state_names_its_queues(db):
    store(db, count=2, queue_name="mail")
    claim(db, ["mail"], limit=1, process_id=ME, now=NOW)
    store(db, queue_name="Mail")
    store(db, queue_name="post", run_after=LATER)

    found = {state: sorted(names) for state, names in queues_by_state(db).items() if names}

    assert found == {"ready": ["Mail", "mail"], "claimed": ["mail"], "scheduled": ["post"]}


def test_no_jobs_are_no_queues(db):
    assert set(map(tuple, queues_by_state(db).values())) == {()}
    assert tally(db, ReadyExecution, cap=10) == {}
    assert longest_waiting(db) == []


def test_counting_ends_at_the_cap(db):
    for name, count in (("few", 2), ("just", 3), ("many", 5)):
        store(db, count=count, queue_name=name)

    counts = tally(db, ReadyExecution, cap=3)

    assert {name: str(count) for name, count in counts.items()} == {
        "few": "2",
        "just": "3",
        "many": "3+",
    }


def test_finished_jobs_are_read_up_to_the_cap_wherever_they_lie(db, monkeypatch):
    """Of a queue whose jobs came last a scan of the table meets the first only at its end."""
    if not engine_for(db).skips_by_recursion:
        pytest.skip("needs a walk through the index: here the optimizer decides what to skip")
    monkeypatch.setattr(reading, "BIG", [FinishedExecution._meta.db_table])
    times = {"worker_id": ME, "started_at": NOW, "finished_at": NOW, "return_value": None}
    for name in ("a", "b", "c", "d", "e"):
        jobs = [build(db, queue_name=name) for _ in range(3_000)]
        rows = [state_of(FinishedExecution, job, **times) for job in jobs]
        db.objects(FinishedExecution).bulk_create(rows, batch_size=1_000)
    if db.vendor == "postgresql":  # On MySQL it would end the test's transaction.
        with db.cursor() as cursor:
            cursor.execute("ANALYZE")

    cost = reading.cost_of(db, lambda: tally(db, FinishedExecution, cap=10))

    assert tally(db, FinishedExecution, cap=10) == dict.fromkeys("abcde", Count(10, True))
    assert cost <= 3_000


def test_the_longest_waiting_are_found_without_reading_all_jobs(db, monkeypatch):
    if not engine_for(db).skips_by_recursion:
        pytest.skip("needs a walk through the index: here all ready jobs are grouped")
    monkeypatch.setattr(reading, "BIG", [Job._meta.db_table])
    names = ("a", "b", "c") * 1_000
    enqueue(db, [build(db, queue_name=name) for name in names], now=NOW)

    assert reading.cost_of(db, lambda: longest_waiting(db)) <= 1_000


def test_claimed_jobs_are_counted_alike(db):
    store(db, count=3)
    claim(db, ["*"], limit=3, process_id=ME, now=NOW)

    assert tally(db, ClaimedExecution, cap=2) == {"default": Count(2, is_capped=True)}
    assert tally(db, FinishedExecution, cap=2) == {}


def test_a_thousand_queues_and_more_are_all_seen(db):
    names = {f"q{number:04}" for number in range(1200)}
    enqueue(db, [build(db, queue_name=name) for name in names], now=NOW)

    assert set(queues_by_state(db)["ready"]) == names
    assert set(tally(db, ReadyExecution, cap=10)) == names
    assert {job.queue_name for job in longest_waiting(db)} == names


def test_the_longest_waiting_job_is_seen_behind_higher_priorities(db):
    store(db, priority=-5, enqueued_at=NOW - timedelta(minutes=9))
    store(db, priority=0, enqueued_at=NOW - timedelta(minutes=1))
    store(db, priority=0, enqueued_at=NOW)

    waiting = longest_waiting(db)

    assert sorted(NOW - job.enqueued_at for job in waiting) == [
        timedelta(minutes=1),
        timedelta(minutes=9),
    ]


def test_jobs_of_a_sibling_backend_are_not_counted(db):
    store(db, queue_name="mine")
    store(sibling_of(db), queue_name="theirs", run_after=LATER)

    assert set(tally(db, ReadyExecution, cap=9)) == {"mine"}
    assert tally(db, ScheduledExecution, cap=9) == {}
    assert queues_by_state(db)["scheduled"] == []
