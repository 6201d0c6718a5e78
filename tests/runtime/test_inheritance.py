"""Inheritance in real workers, which the tests poll: without a poll they claim nothing."""

import time
from threading import Event

import pytest
from django.db import OperationalError

from dj_queue import timezone
from dj_queue.conf import WorkerOptions
from dj_queue.exceptions import ProcessExited
from dj_queue.models import ClaimedExecution, FinishedExecution, ReadyExecution, Semaphore
from dj_queue.operations.claim import claim
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.finish import finish_and_inherit
from dj_queue.operations.pauses import pause
from dj_queue.operations.recover import recover
from dj_queue.operations.remains import Remains
from dj_queue.runtime.finisher import Finisher
from dj_queue.runtime.worker import Worker
from tests.jobs import EVERY, ME, NOW, build, counts
from tests.runtime.units import end, registered
from tests.shop import turns
from tests.shop.tasks import ARRIVED, GATE
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)


def keyed(db, number=0, limit=1, **columns):
    rule = {"concurrency_key": "k", "concurrency_limit": limit, "concurrency_seconds": 60}
    what = {"task_path": "tests.shop.turns.charge", "args": [7], "kwargs": {"number": number}}
    return build(db, **rule, discards_on_conflict=False, **what | columns)


@pytest.fixture
def make_worker(db):
    """Give a function that makes a worker that is not started, but its finisher is."""
    turns.RECORD.clear()
    GATE.clear()
    ARRIVED.clear()
    workers = []

    def make(threads=2, **options):
        options = WorkerOptions(threads=threads, **options)
        workers.append(Worker(registered(db, options), options, Finisher(db)))
        workers[-1].finisher.start()
        return workers[-1]

    yield make
    GATE.set()
    for worker in workers:
        end(worker)


@pytest.fixture
def worker(make_worker):
    return make_worker()


def between(monkeypatch, do):
    """Do something when a transaction has committed that left an inheritance, once."""
    done = []

    def finish(db, outcomes, heir):
        answer = finish_and_inherit(db, outcomes, heir)
        if answer[1].inherited and not done:
            done.append(answer)
            do()
        return answer

    monkeypatch.setattr("dj_queue.runtime.finisher.finish_and_inherit", finish)
    return done


def test_a_worker_runs_on_with_a_key_after_one_claim(db, worker, claims):
    enqueue(db, [keyed(db, number) for number in range(50)], now=NOW)

    worker.poll()
    until(lambda: counts(db) == {"finished": 50})

    assert len(claims) == 1
    assert turns.RECORD.begun == list(range(50))
    assert turns.RECORD.most == 1
    assert not db.objects(Semaphore).exists()


def test_threads_that_are_free_share_an_inheritance(db, make_worker, claims):
    worker = make_worker(threads=8)
    crowd = {"task_path": "tests.shop.turns.crowd", "kwargs": {}, "limit": 5}
    enqueue(db, [keyed(db, args=[number], **crowd) for number in range(60)], now=NOW)

    worker.poll()
    until(lambda: counts(db) == {"finished": 60})

    assert len(claims) == 1
    assert turns.RECORD.most <= 5
    assert sorted(turns.RECORD.begun) == list(range(60))


def test_a_worker_whose_threads_are_busy_inherits_nothing(db, worker):
    slow = build(db, task_path="tests.shop.tasks.wait_at_gate", args=[])
    enqueue(db, [slow, build(db, task_path=slow.task_path, args=[])], now=NOW)
    worker.poll()
    until(lambda: worker._crews[0].running_count == 2)
    # Its own, claimed under its id, and run elsewhere.
    enqueue(db, [keyed(db), keyed(db)], now=NOW)
    [row] = claim(db, ["*"], limit=1, process_id=worker.registration.id, now=NOW)

    worker._run(row)
    until(lambda: worker.finisher.pending_count == 0)

    assert counts(db) == {"claimed": 2, "finished": 1, "ready": 1}
    assert worker.wake.is_set()


def test_a_worker_with_a_loop_for_coroutines_inherits_nothing(db, make_worker):
    worker = make_worker(concurrency=4)
    enqueue(db, [keyed(db), keyed(db)], now=NOW)

    worker.poll()
    until(lambda: counts(db) == {"finished": 1, "ready": 1})

    assert worker.wake.wait(20)


def test_a_pause_ends_the_running_on(db, worker, monkeypatch):
    done = between(monkeypatch, lambda: pause(db, ["default"], now=timezone.now()))
    enqueue(db, [keyed(db, number) for number in range(5)], now=NOW)

    worker.poll()
    until(lambda: counts(db) == {"finished": 2, "ready": 1, "blocked": 2})

    assert len(done) == 1


def test_a_worker_that_was_told_to_stop_leaves_the_next_job_to_others(db, worker):
    slow = {"task_path": "tests.shop.tasks.wait_at_gate", "args": [], "kwargs": {}}
    enqueue(db, [keyed(db, **slow), keyed(db)], now=NOW)
    worker.poll()
    until(ARRIVED.is_set)

    worker.stop()
    GATE.set()

    until(lambda: counts(db) == {"finished": 1, "ready": 1})


@pytest.mark.parametrize("told", ["stop", "close"])
def test_a_worker_that_is_told_to_stop_while_it_inherits_gives_back(db, worker, monkeypatch, told):
    # After the commit, before the job is put into the pool; the finisher is told to end as well.
    def stop():
        getattr(worker, told)()
        worker.finisher.stop(time.monotonic() + 20)

    between(monkeypatch, stop)
    enqueue(db, [keyed(db), keyed(db)], now=NOW)

    worker.poll()
    worker.finisher.join(30)

    assert counts(db) == {"finished": 1, "ready": 1}
    assert worker.finisher.pending_count == 0
    assert worker.ledger.unstarted.claims == frozenset()


def test_a_job_whose_inheritance_was_not_answered_is_given_back_and_runs_once(
    db, worker, monkeypatch
):
    def lose():
        raise OperationalError("the connection was lost during the commit")

    between(monkeypatch, lose)
    enqueue(db, [keyed(db, number) for number in range(4)], now=NOW)

    worker.poll()
    until(lambda: worker.finisher.pending_count == 0 and not worker.is_busy)
    # Before the finisher tried again, it gave back what the worker may have inherited.
    assert counts(db) == {"finished": 1, "ready": 1, "blocked": 2}
    until(lambda: worker.poll() and counts(db) == {"finished": 4})

    assert turns.RECORD.begun == [0, 1, 2, 3]
    assert set(db.objects(FinishedExecution).values_list("attempt", flat=True)) == {1}


def test_what_was_inherited_unanswered_is_given_back_though_the_worker_was_told_to_stop(
    db, worker, monkeypatch
):
    def stop_and_lose():
        worker.stop()
        raise OperationalError("the connection was lost during the commit")

    between(monkeypatch, stop_and_lose)
    enqueue(db, [keyed(db, number) for number in range(3)], now=NOW)

    worker.poll()
    until(lambda: worker.finisher.pending_count == 0 and not worker.is_busy)

    assert counts(db) == {"finished": 1, "ready": 1, "blocked": 1}


def test_a_job_that_was_inherited_by_a_process_that_died_at_once_had_not_started(
    db, worker, monkeypatch
):
    seen, resumed = Event(), Event()
    found = []

    def die():
        found.append((worker.ledger.unstarted, db.objects(ClaimedExecution).get()))
        seen.set()
        assert resumed.wait(20)

    between(monkeypatch, die)
    enqueue(db, [keyed(db), keyed(db, 1)], now=NOW)
    worker.poll()
    assert seen.wait(20)

    [(unstarted, row)] = found
    assert row in unstarted
    gone = [worker.registration.id]
    recovery = recover(db, gone, ProcessExited("killed"), now=NOW, remains=Remains(unstarted))

    assert (recovery.ready_count, recovery.ended) == (1, [])
    assert counts(db) == {"finished": 1, "ready": 1}
    assert db.objects(ReadyExecution).get().attempt == 1
    # What is left of the process can neither start it nor finish it any more.
    worker.registration.begin_again()
    resumed.set()
    until(lambda: not worker.is_busy)
    assert turns.RECORD.begun == [0]
    assert counts(db) == {"finished": 1, "ready": 1}


def test_a_worker_that_was_given_up_inherits_nothing(db, worker):
    slow = {"task_path": "tests.shop.tasks.wait_at_gate", "args": [], "kwargs": {}}
    enqueue(db, [keyed(db, **slow), keyed(db)], now=NOW)
    worker.poll()
    until(ARRIVED.is_set)

    worker.registration.begin_again()
    GATE.set()

    until(lambda: counts(db) == {"finished": 1, "ready": 1})


def test_jobs_of_others_leave_a_worker_nothing(db, worker):
    enqueue(db, [keyed(db), keyed(db)], now=NOW)
    [row] = claim(db, ["*"], limit=1, process_id=ME, now=NOW)

    worker._run(row)

    until(lambda: counts(db) == {"finished": 1, "ready": 1})
