"""`manage.py dj_queue` as an operator runs it."""

import signal

import pytest

from dj_queue.compat import TaskResultStatus
from dj_queue.models import FailedExecution
from dj_queue.routers import queue_database
from tests.jobs import EVERY, counts, totals
from tests.processes.records import process_of
from tests.shop import recorded, tasks
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)


def test_it_works_off_every_backend_and_ends_on_term(start):
    results = [
        tasks.add.using(backend=name).enqueue(1, n)
        for n in range(10)
        for name in ("default", "alerts", "bulk")
    ]

    process = start("dj_queue")
    until(lambda: totals() == {"queue": {"finished": 20}, "bulk": {"finished": 10}})
    status, output = process.end()

    assert (status, output.splitlines()[-1]) == (0, "stopped; all running jobs ended")
    assert "default@queue: 3 threads on *" in output
    for result in results:
        result.refresh()
        assert result.return_value == 1 + result.args[1]
    assert len({(result.backend, result.worker_ids[0]) for result in results}) == 3


def test_one_backend_alone_leaves_the_others_jobs(start):
    for name in ("default", "alerts", "bulk"):
        tasks.add.using(backend=name).enqueue(1, 2)

    process = start("dj_queue", "--backend", "alerts")
    until(lambda: totals()["queue"] == {"finished": 1, "ready": 1})

    assert process.end()[0] == 0
    assert totals()["bulk"] == {"ready": 1}


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_running_job_may_end_within_the_shutdown_timeout(start, signum):
    result = tasks.sleep.enqueue(1.5)
    waiting = [tasks.sleep.enqueue(0) for _ in range(3)]
    process = start("dj_queue", "--backend", "default")
    until(lambda: counts(queue_database("default")).get("finished") == 3)

    status, output = process.end(signum)

    result.refresh()
    assert (status, result.status) == (0, TaskResultStatus.SUCCESSFUL), output
    assert len(waiting) == 3


@pytest.mark.parametrize("then", [signal.SIGTERM, signal.SIGQUIT])
def test_a_second_signal_ends_it_at_once_and_fails_what_runs(start, records, then):
    recorded.hold.enqueue("a gate that stays shut")
    process = start("dj_queue", "--backend", "default")
    db = queue_database("default")
    # A job that is only claimed has not started, and would be ready again.
    until(lambda: records.executions and process_of(db, "dispatcher"))

    process.process.send_signal(signal.SIGTERM)
    # Two at the same moment would be one: it has been told when the dispatcher has ended.
    until(lambda: process_of(db, "dispatcher") is None)
    status, output = process.end(then)

    assert status == 1
    assert "worker default: stopped; jobs that did not end in time: 1" in output
    assert db.objects(FailedExecution).get().exception_path == "dj_queue.exceptions.ProcessExited"


def test_a_database_that_is_down_at_start_stops_only_its_own_backend(start):
    tasks.add.enqueue(1, 2)

    process = start("dj_queue", settings="tests.processes.bulk_down")
    until(lambda: totals()["queue"] == {"finished": 1})
    status, output = process.end()

    assert status == 0
    assert "database 'bulk' does not answer, it will be retried" in output
    assert output.count("database_down database=bulk") == 1


def test_a_database_without_our_tables_is_refused_with_the_remedy(start):
    process = start("dj_queue", settings="tests.processes.bulk_astray")
    status, output = process.wait()

    assert status == 1
    assert "expected dj_queue's tables on database 'default' (backend 'bulk')" in output
    assert "it lacks dj_queue_attempt" in output
    assert "Run `manage.py dj_queue_migrate --repair`" in output


def test_an_unknown_backend_is_refused_with_the_names_there_are(start):
    process = start("dj_queue", "--backend", "blk")
    status, output = process.wait()

    assert status == 1
    assert "expected a dj_queue backend of TASKS ('default', 'alerts', 'bulk'), got 'blk'" in output
