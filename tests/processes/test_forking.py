"""What a task starts: processes that have nothing of the worker's but its code."""

import pytest

from dj_queue.models import FailedExecution, FinishedExecution
from dj_queue.routers import queue_database
from tests.jobs import EVERY, counts, store
from tests.processes.records import check, check_stopped, process_of
from tests.shop import forking
from tests.shop.recorded import note
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

DEFAULT = [["SIG_DFL", "default_int_handler", "SIG_DFL"], []]
"""The handlers of TERM, INT and QUIT, and the signals that are blocked."""
COMMAND = ("dj_queue", "--backend", "default")


@pytest.fixture
def db():
    return queue_database("default")


@pytest.fixture(params=["fork", "thread"])
def command(request):
    return (*COMMAND, "--mode", request.param)


def value_of(result):
    result.refresh()
    return result.return_value


def test_children_of_tasks_have_default_signals_and_no_connections(start, db, command):
    forked = {each: forking.ask_a_child.enqueue(each) for each in ("fork", "forkserver")}
    program = forking.ask_a_program.enqueue()

    process = start(*command, workers=[{"threads": 1}])
    until(lambda: counts(db) in ({"finished": 3}, {"failed": 1, "finished": 2}))

    assert counts(db) == {"finished": 3}, process.output
    assert value_of(program) == DEFAULT
    for result in forked.values():
        assert value_of(result) == [DEFAULT, 0]
    assert process.end()[0] == 0
    check_stopped(db)


@pytest.fixture
def needs_pool(needs_notifications):
    """Skip the test where Django has no connection pool: it has one for psycopg only."""
    pytest.importorskip("psycopg_pool")


def test_a_child_shares_no_connection_that_waits_in_a_pool(start, db, needs_pool):
    result = forking.ask_a_child.enqueue("fork")

    process = start(*COMMAND, queue={"OPTIONS": {"pool": {"min_size": 4}}})
    until(lambda: counts(db) in ({"finished": 1}, {"failed": 1}))

    assert value_of(result) == [DEFAULT, 0], process.output
    assert process.end()[0] == 0


def test_a_pool_that_overruns_its_time_ends_with_its_task(start, db, command):
    forking.overrun.enqueue()

    process = start(*command)
    until(lambda: counts(db) == {"failed": 1}, seconds=20)

    assert db.objects(FailedExecution).get().exception_path.endswith("TimeoutError")
    assert process.end()[0] == 0
    until(lambda: process.is_over)


def test_a_child_takes_none_of_the_workers_sessions_with_it(start, db, needs_server):
    note.enqueue()
    process = start(*COMMAND, workers=[{"threads": 1}])
    # Whoever is still connecting opens and closes sessions of its own.
    until(lambda: all(process_of(db, kind) for kind in ("worker", "dispatcher", "scheduler")))
    until(lambda: counts(db) == {"finished": 1})

    result = forking.keep_sessions.enqueue()
    until(lambda: counts(db) == {"finished": 2})

    before, after, of_child = value_of(result)
    assert set(before) <= set(after)
    assert of_child not in before
    assert process.end()[0] == 0


@pytest.mark.parametrize("crew", [{"threads": 1}, {"threads": 1, "concurrency": 1}])
def test_a_child_that_the_module_of_a_task_forks_ends_there(start, records, db, crew):
    # It would run the task as well, and wait for others for ever.
    store(db, task_path="tests.shop.forks.work", args=[])
    process = start(*COMMAND, workers=[crew])
    until(lambda: counts(db) == {"finished": 1})

    assert len(records.executions) == 1
    assert process.end()[0] == 0
    until(lambda: process.is_over)


def test_a_child_that_returns_to_the_event_loop_ends_there(start, records, db):
    # With other coroutines on the loop, which it would run as well.
    result = forking.go_on_as_two.enqueue()
    process = start(*COMMAND, workers=[{"threads": 1, "concurrency": 4}])
    until(lambda: counts(db) == {"finished": 1})

    assert value_of(result) == 1
    assert len(records.executions) == 1
    assert process.end()[0] == 0
    until(lambda: process.is_over)


@pytest.mark.parametrize(
    "name",
    ["come_back_as_two", "come_back_as_two_coroutines", "come_back_as_two_from_a_call"],
)
def test_a_child_that_leaves_the_task_ends_there(start, records, db, name):
    # Otherwise there were two workers now, and both would run what was claimed ahead.
    workers = [{"threads": 1, "concurrency": 0 if name == "come_back_as_two" else 1}]
    results = [getattr(forking, name).enqueue(how) for how in ("return", "raise", "exit")]
    note.get_backend().enqueue_all([(note, [], {})] * 50)

    process = start(*COMMAND, workers=workers)
    until(lambda: counts(db) == {"finished": 53})

    assert [value_of(each) for each in results] == [0, 1, 5]
    assert len(records.executions) == 53
    assert len(set(db.objects(FinishedExecution).values_list("worker_id", flat=True))) == 1
    status, output = process.end()
    assert status == 0, output
    assert "ValueError: in the child" in output
    check(db, records, enqueued=53)
