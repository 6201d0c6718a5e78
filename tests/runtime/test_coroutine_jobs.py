"""Coroutine tasks of a worker with `concurrency`, from the claim to the outcome."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections

from dj_queue.compat import task_started
from dj_queue.conf import WorkerOptions
from dj_queue.models import Attempt, FailedExecution, FinishedExecution, Job, Pause
from dj_queue.routers import QueueDatabase
from dj_queue.runtime.prefetch import Prefetching
from dj_queue.runtime.runner import Leftovers, Runner
from dj_queue.runtime.units import Unit
from tests.jobs import EVERY, counts, states, store
from tests.shop import coroutines, hostile
from tests.shop.tasks import ARRIVED, GATE
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

FUNCTION = {"task_path": "tests.shop.tasks.wait_at_gate", "args": []}


def coroutine(name: str, *args: Any) -> dict[str, Any]:
    return {"task_path": f"tests.shop.coroutines.{name}", "args": list(args)}


@pytest.fixture(autouse=True)
def shut_gate() -> Iterator[None]:
    GATE.clear()
    ARRIVED.clear()
    for notes in (coroutines.AT_GATE, coroutines.CLEANED_UP, coroutines.SEEN):
        notes.clear()
    yield
    GATE.set()


@pytest.fixture
def make_runner(db: QueueDatabase) -> Iterator[Callable[..., Runner]]:
    """Give a function that starts a runner of one worker; it is stopped with the test."""
    runners: list[Runner] = []

    def make(threads: int = 2, concurrency: int = 100) -> Runner:
        options = WorkerOptions(threads=threads, concurrency=concurrency, polling_interval=0.02)
        runners.append(Runner([Unit("worker", db, f"worker {db.backend}", options)]))
        runners[-1].start()
        return runners[-1]

    yield make
    GATE.set()
    for runner in runners:
        runner.stop()


def test_a_hundred_coroutines_run_at_once_beside_functions(db, make_runner):
    store(db, count=100, **coroutine("wait"))
    store(db, count=2, **FUNCTION)
    store(db, count=7, task_path="tests.shop.coroutines.colour", args=["red"])

    runner = make_runner(threads=2, concurrency=100)
    until(lambda: len(coroutines.AT_GATE) == 100 and ARRIVED.is_set())
    until(lambda: counts(db).get("claimed", 0) >= 102)
    GATE.set()
    until(lambda: counts(db) == {"finished": 109})

    assert not runner.stop()
    names = set(
        db.objects(FinishedExecution)
        .filter(job__task_path="tests.shop.coroutines.wait")
        .values_list("return_value", flat=True)
    )
    assert names == {f"task {db} loop"}


def test_without_concurrency_coroutines_run_in_the_threads(db, make_runner):
    GATE.set()
    store(db, count=5, **coroutine("wait"))

    runner = make_runner(threads=2, concurrency=0)
    until(lambda: counts(db) == {"finished": 5})

    assert not runner.stop()
    names = set(db.objects(FinishedExecution).values_list("return_value", flat=True))
    assert f"task {db} loop" not in names


def test_coroutines_begin_in_claim_order(db, make_runner, monkeypatch):
    # A worker that looks for functions as well, or is slow at once, may return a coroutine.
    monkeypatch.setattr("dj_queue.runtime.crews.PROBE_SECONDS", 3600.0)
    monkeypatch.setattr(Prefetching, "surplus", lambda *_: 0)
    for number in range(30):
        store(db, priority=number % 3, **coroutine("wait", str(number)))
    GATE.set()

    make_runner(concurrency=1)
    until(lambda: counts(db) == {"finished": 30})

    order = [str(number) for rest in (2, 1, 0) for number in range(rest, 30, 3)]
    assert order == coroutines.AT_GATE


def test_the_orm_is_used_as_django_documents_and_leaves_no_connection(db, make_runner, monkeypatch):
    monkeypatch.setitem(connections[db.alias].settings_dict, "CONN_MAX_AGE", 0)
    store(db, count=20, **coroutine("count_jobs"))
    [refused] = store(db, **coroutine("use_no_thread"))

    make_runner(concurrency=10)
    until(lambda: counts(db) == {"finished": 20, "failed": 1})

    failure = db.objects(FailedExecution).get()
    assert failure.job_id == refused.id
    assert failure.exception_path == "django.core.exceptions.SynchronousOnlyOperation"
    values = db.objects(FinishedExecution).values_list("return_value", flat=True)
    assert set(values) == {21}
    assert [was_open for _, was_open, _ in coroutines.SEEN] == [True] * 20
    until(lambda: not any(connection.connection for connection, _, _ in coroutines.SEEN))


@pytest.mark.parametrize("name", ["leave_a_transaction_open", "begin_raw"])
@pytest.mark.parametrize(
    ("raises", "path"),
    [(False, "dj_queue.exceptions.TransactionLeftOpen"), (True, "builtins.ValueError")],
)
def test_a_transaction_left_open_is_rolled_back_and_fails_the_job(
    db, make_runner, monkeypatch, raises, path, name
):
    monkeypatch.setitem(connections[db.alias].settings_dict, "CONN_MAX_AGE", None)
    store(db, **coroutine(name, db.alias, raises))
    runner = make_runner(concurrency=1)
    until(lambda: counts(db) == {"failed": 1})

    store(db, **coroutine("count_jobs"))
    until(lambda: counts(db) == {"failed": 1, "finished": 1})

    assert not runner.stop()
    assert db.objects(FailedExecution).get().exception_path == path
    assert not db.objects(Pause).exists()
    threads = {thread for _, _, thread in coroutines.SEEN}
    assert len(threads) == 1


def test_persistent_connections_are_closed_when_the_worker_stops(db, make_runner, monkeypatch):
    monkeypatch.setitem(connections[db.alias].settings_dict, "CONN_MAX_AGE", None)
    store(db, count=5, **coroutine("count_jobs"))

    runner = make_runner()
    until(lambda: counts(db) == {"finished": 5})
    were_open = any(connection.connection for connection, _, _ in coroutines.SEEN)
    runner.stop()

    assert were_open
    until(lambda: not any(connection.connection for connection, _, _ in coroutines.SEEN))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("exit", "builtins.SystemExit"),
        ("interrupt", "builtins.KeyboardInterrupt"),
        ("cancel", "asyncio.exceptions.CancelledError"),
        ("cancel itself", "asyncio.exceptions.CancelledError"),
        ("exit in a task of its own", "builtins.SystemExit"),
        ("recursion", "builtins.RecursionError"),
        ("unheard of", "builtins.KeyError"),
    ],
)
def test_whatever_a_coroutine_raises_is_one_failed_attempt(db, make_runner, name, path):
    [bad] = store(db, **coroutine("raise_what", name))
    runner = make_runner()
    until(lambda: counts(db) == {"failed": 1})

    [good] = store(db, **coroutine("colour", "red"))
    until(lambda: counts(db) == {"failed": 1, "finished": 1})

    assert not runner.stop()
    assert states(db) == {bad.id: ["failed"], good.id: ["finished"]}
    assert db.objects(FailedExecution).get().exception_path == path


def test_a_coroutine_is_attempted_as_often_as_its_task_allows(db, make_runner):
    store(db, max_attempts=3, **coroutine("succeed_at_last"))

    make_runner()
    until(lambda: counts(db) == {"finished": 1})

    assert db.objects(FinishedExecution).get().return_value == 3
    assert db.objects(Attempt).count() == 2


def test_a_path_that_names_no_task_fails_its_own_job_only(db, make_runner):
    store(db, task_path="no.such.module", args=[])
    store(db, task_path="tests.shop.quits.task", args=[])
    store(db, **coroutine("gone"))
    store(db, **coroutine("colour", "red"))

    runner = make_runner()
    until(lambda: counts(db) == {"failed": 3, "finished": 1})

    assert not runner.stop()
    paths = set(db.objects(FailedExecution).values_list("exception_path", flat=True))
    assert paths == {"dj_queue.exceptions.InvalidTaskPath"}


def test_coroutines_do_not_see_each_others_context(db, make_runner):
    store(db, count=10, **coroutine("colour", "red"))

    make_runner(concurrency=1)
    until(lambda: counts(db) == {"finished": 10})

    values = db.objects(FinishedExecution).values_list("return_value", flat=True)
    assert set(values) == {"none"}


def test_receivers_of_task_started_may_use_the_orm_and_fail(db, make_runner):
    seen = []

    def receiver(task_result: Any, **_: Any) -> None:
        seen.append((db.objects(Job).filter(id=task_result.id).count(), task_result.id))
        raise RuntimeError("a receiver's own trouble")

    jobs = store(db, count=3, **coroutine("colour", "red"))
    task_started.connect(receiver)
    try:
        make_runner()
        until(lambda: counts(db) == {"finished": 3})
    finally:
        task_started.disconnect(receiver)

    assert seen == [(1, str(job.id)) for job in jobs]


@pytest.mark.parametrize("name", ["a model instance", "a queryset", "a lazy object"])
def test_a_result_that_is_not_json_ends_the_job_with_its_own_error(db, make_runner, name):
    # On the event loop even its str() would raise, for it asks a database.
    hostile.CALLS.clear()
    store(db, task_path="tests.shop.hostile.give_later", args=[name], max_attempts=3)

    make_runner()
    until(lambda: counts(db) == {"failed": 1})

    [failure] = db.objects(FailedExecution)
    assert failure.exception_path == "dj_queue.exceptions.InvalidReturnValue"
    assert failure.message.startswith("return value: expected a JSON value, got an instance of ")
    assert (db.objects(Attempt).count(), hostile.CALLS) == (1, [name])


def test_a_drain_waits_for_coroutines(db, make_runner):
    store(db, count=3, **coroutine("wait"))
    runner = make_runner()
    runner.shutdown_timeout = 30.0
    until(lambda: len(coroutines.AT_GATE) == 3)
    threading.Timer(0.1, GATE.set).start()

    assert not runner.stop()

    assert counts(db) == {"finished": 3}


def test_a_coroutine_that_does_not_end_in_time_is_cancelled_and_failed_once(
    db, make_runner, events
):
    store(db, count=2, **coroutine("wait", "slow"))
    store(db, count=4, **coroutine("wait", "late"))
    runner = make_runner(threads=1, concurrency=2)
    runner.shutdown_timeout = 0.0
    until(lambda: len(coroutines.AT_GATE) == 2)

    assert runner.stop() == Leftovers(abandoned_count=2, lost_count=0)

    assert coroutines.CLEANED_UP == ["slow", "slow"]
    assert counts(db) == {"failed": 2, "ready": 4}
    failures = db.objects(FailedExecution).values_list("exception_path", flat=True)
    assert set(failures) == {"dj_queue.exceptions.ProcessExited"}
    names = [name for name, _ in events()]
    assert (names.count("job_abandoned"), names.count("claim_lost")) == (2, 0)
