"""What one call of user code sets, no other finds: language, time zone, context variables."""

import decimal
from contextlib import contextmanager

import pytest

from dj_queue.compat import task_enqueued, task_finished, task_started
from dj_queue.conf import WorkerOptions
from dj_queue.operations.claim import claim
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import announce
from dj_queue.routers import queue_database
from dj_queue.runtime.finisher import Finisher
from dj_queue.runtime.scheduler import Scheduler
from dj_queue.runtime.worker import Worker
from dj_queue.testing import drain
from tests.jobs import EVERY, ME, NOW, counts, store
from tests.recurring import put
from tests.runtime.finishing import outcomes_of, record
from tests.runtime.units import end, registered
from tests.shop.surroundings import (
    CHANGED,
    UNTOUCHED,
    change_surroundings,
    settle_in,
    settle_in_later,
    surroundings,
)
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

PATH = "tests.shop.surroundings."


@contextmanager
def receiving(signal, receive):
    """Call `receive` for a signal inside the block."""

    def receiver(**_):
        receive()

    signal.connect(receiver)
    try:
        yield
    finally:
        signal.disconnect(receiver)


@pytest.mark.parametrize("concurrency", [0, 3])
def test_each_job_of_a_worker_has_a_context_of_its_own(db, concurrency):
    # One thread: what a job leaves behind, the next one would find.
    options = WorkerOptions(threads=1, concurrency=concurrency, polling_interval=0.01)
    worker = Worker(registered(db, options), options, Finisher(db))
    tasks = [settle_in, settle_in_later, settle_in_later, settle_in]
    results = [task.using(backend=db.backend).enqueue() for task in tasks]

    worker.finisher.start()
    worker.start()
    until(lambda: counts(db) == {"finished": 4})
    worker.stop()
    worker.join(30)
    end(worker)

    for result in results:
        result.refresh()
        assert result.return_value == UNTOUCHED


def test_receivers_of_task_started_share_their_jobs_context_only(db):
    store(db, count=2, task_path=f"{PATH}settle_in", args=[])
    rows = claim(db, ["*"], limit=2, process_id=ME, now=NOW)

    with receiving(task_started, change_surroundings):
        first = execute(db, rows[0], clock=lambda: NOW)
    second = execute(db, rows[1], clock=lambda: NOW)

    assert (first.return_value, second.return_value) == (CHANGED, UNTOUCHED)
    assert surroundings() == UNTOUCHED


def test_a_job_has_decimals_of_its_own_though_the_thread_has_some(db):
    before = decimal.getcontext().prec
    store(db, count=2, task_path=f"{PATH}round_off", args=[])
    rows = claim(db, ["*"], limit=2, process_id=ME, now=NOW)

    assert [execute(db, row, clock=lambda: NOW).return_value for row in rows] == [28, 28]
    assert decimal.getcontext().prec == before


def test_a_job_that_raises_leaves_nothing_either(db):
    store(db, task_path=f"{PATH}settle_in", args=[True])
    [row] = claim(db, ["*"], limit=1, process_id=ME, now=NOW)

    outcome = execute(db, row, clock=lambda: NOW)

    assert outcome.failure.message == str(UNTOUCHED)
    assert surroundings() == UNTOUCHED


def test_what_drain_runs_leaves_the_tests_own_surroundings(db):
    for _ in range(2):
        settle_in.using(backend=db.backend).enqueue()

    results = drain(db.backend)

    assert [each.return_value for each in results] == [UNTOUCHED] * 2
    assert surroundings() == UNTOUCHED


def test_each_call_of_a_receiver_of_task_finished_has_a_context_of_its_own(db):
    found = []
    outcomes = outcomes_of(db, 3)

    with receiving(task_finished, lambda: found.append(change_surroundings())):
        record(db, outcomes)
        announce(db, outcomes[0])

    assert found == [UNTOUCHED] * 4
    assert surroundings() == UNTOUCHED


def test_each_round_of_a_scheduler_has_a_context_of_its_own():
    found = []
    db = queue_database("default")
    put(db, "a")
    put(db, "b")
    scheduler = Scheduler(registered(db))

    with receiving(task_enqueued, lambda: found.append(change_surroundings())):
        scheduler._poll_once()

    assert found == [UNTOUCHED] * 2
    assert surroundings() == UNTOUCHED
