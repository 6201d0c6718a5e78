"""Receivers have connections as in a request, in threads that have one of their own."""

import time
from contextlib import contextmanager
from itertools import count
from threading import Event

import pytest
from django.db import connections, transaction
from django.utils import timezone

from dj_queue.compat import task_enqueued, task_finished, task_started
from dj_queue.models import Pause
from dj_queue.operations.claim import claim
from dj_queue.operations.execute import execute
from dj_queue.routers import queue_database
from dj_queue.runtime.dispatcher import Dispatcher
from dj_queue.runtime.finisher import BATCH_SIZE, Finisher
from dj_queue.runtime.runner import Leftovers, Runner
from dj_queue.runtime.scheduler import Scheduler
from dj_queue.runtime.units import units_of
from tests.jobs import EVERY, ME, NOW, counts, store
from tests.recurring import put
from tests.runtime.finishing import outcomes_of, record
from tests.runtime.units import registered
from tests.shop import tasks
from tests.shop.models import Order
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)


@contextmanager
def receiving(signal, receive):
    """Call `receive` for a signal inside the block; give what it returned or raised."""
    answers = []

    def receiver(**_):
        try:
            answers.append(receive())
        except Exception as error:  # MySQL's driver even has one of its own here.
            answers.append(type(error))
            raise

    signal.connect(receiver)
    try:
        yield answers
    finally:
        signal.disconnect(receiver)


def break_the_second_time():
    """Give a receiver that uses the ORM, whose connection is lost at its second call."""
    calls = count(1)

    def receive():
        if next(calls) == 2:
            connections["default"].ensure_connection()
            connections["default"].connection.close()  # Django's wrapper knows nothing of it.
        return Order.objects.count()

    return receive


def is_open(alias):
    return connections[alias].connection is not None


@pytest.mark.parametrize("number", [5, BATCH_SIZE + 5])
def test_receivers_of_task_finished_recover_from_a_lost_connection(db, needs_server, number):
    outcomes = outcomes_of(db, number)

    with receiving(task_finished, break_the_second_time()) as answers:
        record(db, outcomes)

    assert counts(db) == {"finished": number}
    assert isinstance(answers[1], type)
    assert [answers[0], *answers[2:]] == [0] * (number - 1)


def test_a_connection_of_receivers_obeys_conn_max_age_and_the_finishers_own_does_not(db):
    # One batch after the other: each is a request, so to say.
    first, second = outcomes_of(db, 2)
    finisher = Finisher(db)
    own = []

    def receive():
        own.append(connections[db.alias].connection)
        before = is_open("default")
        Order.objects.count()
        return before

    with receiving(task_finished, receive) as answers:
        finisher.start()
        finisher.hand_in(first)
        until(lambda: len(answers) == 1)
        finisher.hand_in(second)
        finisher.stop(time.monotonic() + 20)
        finisher.join(30)

    assert answers == [False, False]
    assert own[0] is own[1] is not None


@pytest.mark.parametrize("is_raw", [False, True])
def test_a_transaction_that_a_receiver_leaves_open_is_rolled_back(db, events, is_raw):
    first, second = outcomes_of(db, 2)
    finisher = Finisher(db)

    def begin():
        if is_raw:
            connections[db.alias].cursor().execute("BEGIN")
        else:
            transaction.atomic(using=db.alias).__enter__()
        db.objects(Pause).create(queue_name="left", paused_at=timezone.now())

    finisher.start()
    with receiving(task_finished, begin) as answers:
        finisher.hand_in(first)
        until(lambda: answers)
    finisher.hand_in(second)
    finisher.stop(time.monotonic() + 20)
    finisher.join(30)

    assert counts(db) == {"finished": 2}
    assert not db.objects(Pause).exists()
    assert [name for name, _ in events()] == ["receiver_failed"]


def test_a_transaction_that_a_receiver_of_task_started_leaves_open_fails_the_job(db):
    # Its writes would be lost with the transaction.
    store(db)
    [row] = claim(db, ["*"], limit=1, process_id=ME, now=NOW)

    with receiving(task_started, lambda: transaction.atomic(using="default").__enter__()):
        outcome = execute(db, row, clock=lambda: NOW)

    assert outcome.failure.exception_path == "dj_queue.exceptions.TransactionLeftOpen"
    assert not connections["default"].in_atomic_block


def test_receivers_of_task_enqueued_recover_in_the_scheduler(needs_server, events):
    db = queue_database("default")
    scheduler = Scheduler(registered(db))

    with receiving(task_enqueued, break_the_second_time()) as answers:
        for number in range(4):
            put(db, f"t{number}")
            scheduler._poll_once()

    assert isinstance(answers[1], type)
    assert [answers[0], *answers[2:]] == [0, 0, 0]
    assert "database_down" not in [name for name, _ in events()]


@pytest.mark.parametrize("kind", [Scheduler, Dispatcher])
def test_a_round_closes_what_the_projects_code_has_opened(kind, monkeypatch):
    poller = kind(registered(queue_database("default")))
    poll, own = poller.poll, []

    def poll_and_look():
        Order.objects.count()
        delay = poll()
        own.append(connections["queue"].connection)
        return delay

    monkeypatch.setattr(poller, "poll", poll_and_look)
    poller._poll_once()
    was_open = is_open("default")
    poller._poll_once()

    assert not was_open
    assert own[0] is own[1] is not None


def test_a_stop_says_when_it_is_receivers_that_it_waited_for(monkeypatch):
    is_called, may_return = Event(), Event()

    def receive():
        is_called.set()
        return may_return.wait(60)

    monkeypatch.setattr("dj_queue.runtime.runner.RECORD_SECONDS", 0.1)
    runner = Runner(units_of(["default"]))
    tasks.add.enqueue(1, 2)
    with receiving(task_finished, receive):
        runner.start()
        assert is_called.wait(30)
        left = runner.stop()
        may_return.set()

    assert left == Leftovers(abandoned_count=0, lost_count=0, signals=("task_finished",))
    assert str(left).endswith("database: 0, receivers of task_finished that did not return")
    assert left
    until(lambda: not any(each.is_alive() for each in runner.finishers.values()))
