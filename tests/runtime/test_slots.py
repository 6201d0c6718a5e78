"""Jobs with concurrency keys through real workers, and what a dispatcher does for them."""

import time
from datetime import timedelta
from itertools import pairwise

import pytest

from dj_queue import timezone
from dj_queue.compat import task_backends
from dj_queue.conf import WorkerOptions
from dj_queue.models import FinishedExecution, ReadyExecution, Semaphore, Slot
from dj_queue.operations.claim import claim
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.execute import execute
from dj_queue.routers import queue_database
from dj_queue.runtime.dispatcher import Dispatcher
from dj_queue.runtime.finisher import Finisher
from dj_queue.runtime.runner import Runner
from dj_queue.runtime.slots import SlotKeeper
from dj_queue.runtime.units import Unit
from dj_queue.runtime.worker import Worker
from tests.jobs import EVERY, ME, NOW, build, counts
from tests.runtime.units import registered
from tests.shop import turns
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)


@pytest.fixture
def runner(db):
    """Give two workers of eight threads, in this process."""
    turns.RECORD.clear()
    options = WorkerOptions(threads=8)
    runner = Runner([Unit("worker", db, f"worker {n}", options) for n in range(2)])
    runner.start()
    yield runner
    runner.stop()


def keyed(db, **columns):
    rule = {"concurrency_key": "k", "concurrency_limit": 1, "concurrency_seconds": 60}
    return build(db, **rule, discards_on_conflict=False, **columns)


def test_jobs_of_a_hot_key_run_strictly_one_after_the_other(db, runner):
    charge = turns.charge.using(backend=db.backend)
    calls = [(charge, [7], {"number": number}) for number in range(300)]

    task_backends[db.backend].enqueue_all(calls)
    until(lambda: counts(db) == {"finished": 300})

    assert turns.RECORD.begun == list(range(300))
    assert turns.RECORD.most == 1
    assert db.objects(Slot).count() == db.objects(Semaphore).count() == 0
    # By the times on record, too: each began when the one before had ended.
    spans = list(
        db.objects(FinishedExecution).order_by("pk").values_list("started_at", "finished_at")
    )
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans))


def test_never_more_jobs_run_at_once_than_the_limit_allows(db, runner):
    crowd = turns.crowd.using(backend=db.backend)

    task_backends[db.backend].enqueue_all([(crowd, [number], {}) for number in range(200)])
    until(lambda: counts(db) == {"finished": 200})

    assert sorted(turns.RECORD.begun) == list(range(200))
    # Five at least once: the limit is used, not only kept.
    assert turns.RECORD.most == 5
    assert db.objects(Slot).count() == db.objects(Semaphore).count() == 0


def test_workers_are_nudged_when_a_slot_may_have_been_handed_on(db):
    nudged = []
    finisher = Finisher(db)
    finisher.serve(registered(db).ledger, lambda: nudged.append(counts(db)))
    enqueue(db, [build(db), keyed(db), keyed(db)], now=NOW)
    plain, first = claim(db, ["*"], limit=9, process_id=ME, now=NOW)
    finisher.start()
    try:
        finisher.hand_in(execute(db, plain, clock=lambda: NOW))
        until(lambda: finisher.pending_count == 0)
        assert nudged == []

        finisher.hand_in(execute(db, first, clock=lambda: NOW))
        until(lambda: nudged)
    finally:
        finisher.stop(time.monotonic() + 5)
        finisher.join(10)

    # After the commit: the next job is there to be claimed.
    assert nudged == [{"finished": 2, "ready": 1}]


def test_a_worker_asks_to_be_nudged(db):
    finisher = Finisher(db)
    worker = Worker(registered(db, WorkerOptions()), WorkerOptions(), finisher)
    enqueue(db, [keyed(db)], now=NOW)
    [row] = claim(db, ["*"], limit=9, process_id=ME, now=NOW)
    finisher.start()
    try:
        finisher.hand_in(execute(db, row, clock=lambda: NOW))

        assert worker.wake.wait(30)
    finally:
        finisher.stop(time.monotonic() + 5)
        finisher.join(10)


def test_a_dispatcher_sees_to_slots_that_nobody_handed_on(db, monkeypatch):
    monkeypatch.setattr("dj_queue.runtime.dispatcher.SLOTS_SECONDS", 0.05)
    enqueue(db, [keyed(db), keyed(db), keyed(db)], now=timezone.now() - timedelta(minutes=2))
    db.objects(ReadyExecution).all().delete()
    dispatcher = Dispatcher(registered(db))
    dispatcher.start()
    try:
        until(lambda: counts(db) == {"ready": 1, "blocked": 1})
    finally:
        dispatcher.stop()
        dispatcher.join(10)


def test_the_slot_keeper_goes_over_all_keys_a_few_at_a_time(db, monkeypatch):
    monkeypatch.setattr("dj_queue.runtime.slots.STEP_SIZE", 2)
    jobs = [keyed(db) for _ in range(10)]
    for number, job in enumerate(jobs):
        job.concurrency_key = f"k{number // 2}"
    enqueue(db, jobs, now=timezone.now())
    db.objects(Semaphore).all().delete()
    db.objects(Slot).all().delete()
    keeper = SlotKeeper(db)

    assert [keeper.step() for _ in range(3)] == [True, True, False]

    assert counts(db) == {"ready": 10}


def test_two_databases_keep_their_slots_apart(db, runner):
    # The workers are those of one; the other's job holds the slot of the same key there.
    other = queue_database("default" if db.backend == "bulk" else "bulk")
    enqueue(other, [keyed(other)], now=NOW)

    enqueue(db, [keyed(db)], now=NOW)

    until(lambda: counts(db) == {"finished": 1})
    assert counts(other) == {"ready": 1}
    assert other.objects(Semaphore).get().held == 1
