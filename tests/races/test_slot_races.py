"""Slots of concurrency keys: real connections at the same moment."""

from datetime import timedelta
from threading import Event

import pytest
from django.db import transaction

from dj_queue.models import BlockedExecution, Job, Semaphore, Slot
from dj_queue.operations.claim import claim
from dj_queue.operations.concurrency import settle_arrived
from dj_queue.operations.discard import discard
from dj_queue.operations.dispatch import dispatch_due
from dj_queue.operations.enqueue import enqueue
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import finish
from dj_queue.operations.slots import hand_on_missed, recount_expired
from tests.jobs import EVERY, LATER, ME, NOW, build, counts, states
from tests.processes.sessions import waiting
from tests.races.together import together
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)


def keyed(db, key="k", limit=1, **columns):
    rule = {"concurrency_key": key, "concurrency_limit": limit, "concurrency_seconds": 60}
    return build(db, **rule, discards_on_conflict=False, **columns)


def outcomes_of(db, limit):
    claimed = claim(db, ["*"], limit=limit, process_id=ME, now=NOW)
    return [execute(db, row, clock=lambda: NOW) for row in claimed]


def audit(db):
    """Prove that the slots are those of the ready and claimed; give how many of each key."""
    holding = [job_id for job_id, [state] in states(db).items() if state in ("ready", "claimed")]
    jobs = db.objects(Job).filter(pk__in=holding, concurrency_key__isnull=False)
    slots = sorted(db.objects(Slot).values_list("key", "job_id"))
    assert slots == sorted(jobs.values_list("concurrency_key", "id"))
    semaphores = dict(db.objects(Semaphore).values_list("key", "held"))
    keys = [key for key, _ in slots]
    assert semaphores == {key: keys.count(key) for key in keys}
    return semaphores


@pytest.fixture
def needs_row_locks(db):
    if not db.connection.features.has_select_for_update:
        pytest.skip("needs row locks: this database has one lock for all writers")


@pytest.mark.parametrize("round_number", range(5))
def test_two_enqueues_of_a_free_key_at_once_give_one_slot(db, round_number):
    # Neither finds a semaphore: both make it.
    jobs = [keyed(db), keyed(db)]

    together([lambda job=job: enqueue(db, [job], now=NOW) for job in jobs])

    assert audit(db) == {"k": 1}
    assert counts(db) == {"ready": 1, "blocked": 1}


@pytest.mark.parametrize("round_number", range(5))
def test_two_finishes_and_an_enqueue_of_a_key_at_once_hand_on_each_slot_once(db, round_number):
    enqueue(db, [keyed(db, limit=2) for _ in range(5)], now=NOW)
    first, second = outcomes_of(db, limit=2)

    together(
        [
            lambda: finish(db, [first]),
            lambda: enqueue(db, [keyed(db, limit=2)], now=NOW),
            lambda: finish(db, [second]),
        ]
    )

    assert audit(db) == {"k": 2}
    assert counts(db) == {"finished": 2, "ready": 2, "blocked": 2}


@pytest.mark.parametrize("round_number", range(5))
def test_a_last_finish_and_an_enqueue_at_once_leave_nobody_waiting(db, round_number):
    # The finish deletes the semaphore that the enqueue wants to take.
    enqueue(db, [keyed(db)], now=NOW)
    [outcome] = outcomes_of(db, limit=1)

    together([lambda: finish(db, [outcome]), lambda: enqueue(db, [keyed(db)], now=NOW)])

    assert audit(db) == {"k": 1}
    assert counts(db) == {"finished": 1, "ready": 1}


def test_calls_for_the_same_keys_in_any_order_do_not_wait_for_each_other(db):
    keys = [f"k{n}" for n in range(20)]

    def enqueues(order):
        for _ in range(10):
            enqueue(db, [keyed(db, key=key) for key in order], now=NOW)

    together([lambda: enqueues(keys), lambda: enqueues(keys[::-1]), lambda: enqueues(keys[::3])])

    assert audit(db) == dict.fromkeys(keys, 1)
    assert counts(db) == {"ready": 20, "blocked": 20 * 10 * 2 + 7 * 10 - 20}


def test_workers_dispatchers_and_callers_at_once_lose_no_slot(db):
    keys = ["a", "b", "c"]
    later = NOW + timedelta(minutes=1)

    def call():
        for n in range(40):
            key = keys[n % 3]
            due = later if n % 4 == 0 else None
            enqueue(db, [keyed(db, key=key, limit=2, run_after=due)], now=NOW)

    def work():
        for _ in range(40):
            finish(db, outcomes_of(db, limit=3))

    def look_after():
        for _ in range(20):
            dispatch_due(db, now=later, limit=3)
            recount_expired(db, now=LATER, limit=10)
            hand_on_missed(db, now=LATER, after_key="", limit=10)

    together([call, call, work, work, look_after])

    assert all(count <= 2 for count in audit(db).values())
    while dispatch_due(db, now=later, limit=10):
        pass
    while rest := outcomes_of(db, limit=10):
        finish(db, rest)
    assert counts(db) == {"finished": 80}
    assert audit(db) == {}


def test_a_callers_long_transaction_keeps_nobody_waiting(db, needs_row_locks):
    # The finish comes between the enqueue and its commit.
    enqueue(db, [keyed(db), keyed(db)], now=NOW)
    [outcome] = outcomes_of(db, limit=1)
    enqueued, finished = Event(), Event()

    def call():
        with transaction.atomic(using=db.alias):
            enqueue(db, [keyed(db)], now=NOW)
            enqueued.set()
            assert finished.wait(20)

    def work():
        assert enqueued.wait(20)
        finish(db, [outcome])
        finished.set()

    together([call, work])

    assert audit(db) == {"k": 1}
    assert counts(db) == {"finished": 1, "ready": 1, "blocked": 1}


def test_a_job_that_is_discarded_when_its_turn_comes_leaves_the_slot_to_the_next(
    db, needs_row_locks
):
    # The discard commits when the finish, which has chosen the same job, waits for it.
    enqueue(db, [keyed(db) for _ in range(3)], now=NOW)
    [outcome] = outcomes_of(db, limit=1)
    second = db.objects(BlockedExecution).order_by("pk").values_list("pk", flat=True)[0]
    taken, chosen = Event(), Event()

    def caller():
        with db.atomic():
            discard(db, BlockedExecution, [second])
            taken.set()
            assert chosen.wait(20)

    def work():
        assert taken.wait(20)
        finish(db, [outcome])

    def watch():
        assert taken.wait(20)
        # InnoDB tells the news to who has not asked for 0.1 s.
        until(lambda: waiting(db.alias), every=0.15)
        chosen.set()

    together([caller, work, watch])

    assert audit(db) == {"k": 1}
    assert counts(db) == {"finished": 1, "ready": 1}


@pytest.mark.parametrize("round_number", range(5))
def test_a_job_that_was_blocked_while_the_finish_waited_for_its_key_is_handed_the_slot(
    db, round_number, needs_row_locks, monkeypatch
):
    # The enqueue holds the semaphore, and commits when the finish is about to lock it.
    enqueue(db, [keyed(db)], now=NOW)
    [outcome] = outcomes_of(db, limit=1)
    settled, about_to_lock = Event(), Event()

    def settle_and_wait(*args, **kwargs):
        dropped = settle_arrived(*args, **kwargs)
        settled.set()
        assert about_to_lock.wait(20)
        return dropped

    monkeypatch.setattr("dj_queue.operations.enqueue.settle_arrived", settle_and_wait)

    def tell(execute, sql, *args):
        if Semaphore._meta.db_table in sql:
            about_to_lock.set()
        return execute(sql, *args)

    def work():
        assert settled.wait(20)
        with db.connection.execute_wrapper(tell):
            finish(db, [outcome])

    together([lambda: enqueue(db, [keyed(db)], now=NOW), work])

    assert audit(db) == {"k": 1}
    assert counts(db) == {"finished": 1, "ready": 1}


def test_a_dispatcher_passes_over_a_key_that_somebody_is_about_to_settle(db, needs_row_locks):
    # The first holds the semaphore of "a" until the dispatcher has looked at both keys.
    enqueue(db, [keyed(db, key=key) for key in "aabb"], now=NOW)
    outcomes = {each.claimed.job.concurrency_key: each for each in outcomes_of(db, limit=2)}
    db.objects(Slot).filter(key="b").delete()
    db.objects(Semaphore).filter(key="b").update(held=0)
    settling, looked = Event(), Event()

    def first():
        with db.atomic():
            finish(db, [outcomes["a"]])
            settling.set()
            assert looked.wait(20)

    def dispatcher():
        assert settling.wait(20)
        assert recount_expired(db, now=LATER, limit=10) == 2
        looked.set()

    together([first, dispatcher])

    assert not db.objects(BlockedExecution).exists()
    assert counts(db) == {"finished": 1, "claimed": 1, "ready": 2}
