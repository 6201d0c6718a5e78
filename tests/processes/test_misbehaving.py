"""Tasks that do what none should: one failed attempt each; jobs after them run as always."""

import pytest

from dj_queue.models import Attempt, ClaimedExecution, FailedExecution, FinishedExecution
from dj_queue.routers import queue_database
from tests.jobs import EVERY, counts, store
from tests.processes.records import check, check_stopped
from tests.shop import misbehaving
from tests.shop.models import Order
from tests.shop.recorded import hold, note
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

ONE_THREAD = [{"threads": 1}]

WORSE = [
    ("leave_a_transaction_open", "default", "dj_queue.exceptions.TransactionLeftOpen"),
    ("leave_a_transaction_open", "queue", "dj_queue.exceptions.TransactionLeftOpen"),
    ("leave_autocommit_off", "default", "dj_queue.exceptions.TransactionLeftOpen"),
    ("leave_autocommit_off", "queue", "dj_queue.exceptions.TransactionLeftOpen"),
    ("begin_raw", "default", "dj_queue.exceptions.TransactionLeftOpen"),
    ("begin_raw", "queue", "dj_queue.exceptions.TransactionLeftOpen"),
    ("turn_autocommit_off_raw", "default", "dj_queue.exceptions.TransactionLeftOpen"),
    ("turn_autocommit_off_raw", "queue", "dj_queue.exceptions.TransactionLeftOpen"),
    ("break_the_connection", "default", "django.db.utils."),
    ("break_the_connection", "queue", "django.db.utils."),
    ("raise_what_nobody_catches", "SystemExit", "builtins.SystemExit"),
    ("raise_what_nobody_catches", "KeyboardInterrupt", "builtins.KeyboardInterrupt"),
    ("raise_what_nobody_catches", "GeneratorExit", "builtins.GeneratorExit"),
    ("raise_what_nobody_catches", "Outlaw", "tests.shop.misbehaving.Outlaw"),
    ("recurse", None, "builtins.RecursionError"),
]
PATHS = {
    "tests.shop.nowhere.task": "dj_queue.exceptions.InvalidTaskPath",
    "tests.shop.quits.task": "dj_queue.exceptions.InvalidTaskPath",
    "tests.shop.interrupts.task": "dj_queue.exceptions.InvalidTaskPath",
    "tests.shop.speechless.task": "dj_queue.exceptions.InvalidTaskPath",
}


def test_each_of_them_fails_once_and_the_next_job_in_its_thread_is_well(start, records):
    # One thread: what a task leaves behind, the next one would find.
    db = queue_database("default")
    expected = {}
    for number, (name, argument, error) in enumerate(WORSE):
        arguments = [] if argument is None else [argument]
        expected[getattr(misbehaving, name).enqueue(*arguments).id] = error
        misbehaving.write_an_order.enqueue(f"after {number}")
    for path, error in PATHS.items():
        expected[str(store(db, task_path=path)[0].id)] = error
        misbehaving.write_an_order.enqueue(f"after {path}")

    command = start("dj_queue", "--backend", "default", workers=ONE_THREAD)
    until(lambda: counts(db) == {"failed": len(expected), "finished": len(expected)})
    status, output = command.end()

    assert status == 0, output
    assert "process_died" not in output
    found = dict(db.objects(FailedExecution).values_list("job_id", "exception_path"))
    assert {str(key) for key in found} == set(expected)
    for job_id, path in found.items():
        assert path.startswith(expected[str(job_id)]), (path, expected[str(job_id)])
    assert set(db.objects(Attempt).values_list("number", flat=True)) == {1}
    # What the good ones wrote was committed.
    assert Order.objects.count() == len(expected)
    check(db, records, enqueued=2 * len(expected))
    check_stopped(db)


@pytest.mark.parametrize("status", [7, 0])
def test_a_task_that_ends_its_process_costs_no_job_that_had_not_started(start, records, status):
    # One thread runs it, and others are claimed ahead of it: they never started, for certain.
    db = queue_database("default")
    note.get_backend().enqueue_all([(note, [], {})] * 300)
    culprit = misbehaving.vanish.enqueue(status=status)
    note.get_backend().enqueue_all([(note, [], {})] * 100)

    command = start("dj_queue", "--backend", "default", workers=ONE_THREAD)
    until(lambda: counts(db) == {"finished": 400, "failed": 1})

    [failed] = db.objects(FailedExecution)
    assert str(failed.job_id) == culprit.id
    assert failed.message.endswith(f"ended with status {status}")
    assert set(db.objects(FinishedExecution).values_list("attempt", flat=True)) == {1}
    assert db.objects(Attempt).count() == 1
    executions = records.executions
    assert len(executions) == len({each.job_id for each in executions}) == 401
    status, output = command.end()
    recovered = [line for line in output.splitlines() if line.startswith("claims_recovered")]
    assert status == 0, output
    assert len(recovered) == 1
    assert recovered[0].endswith("ended=1")
    assert " ready=0 " not in recovered[0]
    check(db, records, enqueued=401)
    check_stopped(db)


def test_what_ran_beside_it_has_had_an_attempt_and_runs_again_if_it_may(start, records):
    # Three threads: each is busy, and two jobs wait in the table.
    db = queue_database("default")
    culprit = misbehaving.vanish.using(max_attempts=2).enqueue("all begun")
    once = hold.enqueue("never")
    twice = hold.using(max_attempts=2).enqueue("again")
    command = start("dj_queue", "--backend", "default", workers=[{"threads": 3}])
    until(lambda: len(records.executions) == 3)
    waiting = [note.enqueue() for _ in range(2)]

    records.open("all begun")
    until(lambda: len(records.of(twice.id)) == 2)
    records.open("again")
    until(lambda: counts(db) == {"finished": 4, "failed": 1})

    for result, attempts in ((culprit, 2), (once, 1), (twice, 2), *((each, 1) for each in waiting)):
        assert len(records.of(result.id)) == attempts
    [failed] = db.objects(FailedExecution)
    assert str(failed.job_id) == once.id
    assert not db.objects(ClaimedExecution).exists()
    check(db, records, enqueued=5)
    status, output = command.end()
    assert (status, output.count("process_died")) == (0, 1), output
    check_stopped(db)
