"""Workers in this process, on all backends."""

import os
import time
from datetime import timedelta
from threading import Event

import pytest
from django.db import OperationalError, connections

from dj_queue import timezone
from dj_queue.compat import TaskResultStatus, task_backends, task_finished
from dj_queue.exceptions import ProcessExited
from dj_queue.models import ClaimedExecution, FailedExecution, Process, ScheduledExecution
from dj_queue.operations.claim import claim
from dj_queue.operations.recover import recover
from dj_queue.operations.retry import retry
from dj_queue.routers import queue_database
from dj_queue.runtime import forks
from dj_queue.runtime.process import seconds_of_life
from dj_queue.runtime.runner import Leftovers, Runner
from dj_queue.runtime.scheduler import Scheduler
from dj_queue.runtime.units import units_of
from tests.jobs import EVERY, counts, states, store, totals
from tests.listening import options_of
from tests.shop import tasks
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

BACKENDS = ["default", "alerts", "bulk"]
OFTEN = {"task_path": "tests.shop.tasks.add", "args": [1, 2], "schedule": "* * * * * *"}


@pytest.fixture
def runner():
    tasks.GATE.clear()
    tasks.ARRIVED.clear()
    runner = Runner(units_of(BACKENDS))
    yield runner
    tasks.GATE.set()


def test_every_backends_jobs_are_run_by_its_own_workers(runner):
    results = [tasks.who.using(backend=name).enqueue() for name in BACKENDS for _ in range(5)]

    ids = {each.unit.db.backend: each.id for each in runner.registrations if each.unit.worker}

    runner.start()
    until(lambda: totals() == {"queue": {"finished": 10}, "bulk": {"finished": 5}})

    assert not runner.stop()
    for result in results:
        result.refresh()
        alias = queue_database(result.backend).alias
        assert result.return_value.startswith(f"task {result.backend}@{alias}")
        assert result.worker_ids == [str(ids[result.backend])]
        assert result.enqueued_at < result.started_at <= result.finished_at


def test_what_a_lost_answer_had_claimed_is_given_back_by_a_stop(runner, monkeypatch):
    # The worker waits for its next try when it is told to stop: no poll comes any more.
    is_lost = Event()

    def claim_and_lose(*args, **kwargs):
        if claim(*args, **kwargs):
            is_lost.set()
            raise OperationalError("the connection was lost during the commit")
        return []

    monkeypatch.setattr("dj_queue.runtime.worker.claim", claim_and_lose)
    db = queue_database("default")
    store(db, count=2)

    runner.start()
    assert is_lost.wait(30)

    assert not runner.stop()
    assert counts(db) == {"ready": 2}


def test_failures_and_forged_rows_leave_the_worker_at_work(runner, monkeypatch):
    db = queue_database("default")
    tasks.fail.enqueue("x")
    tasks.leave.enqueue()
    tasks.return_moment.enqueue()
    [forged] = store(db, task_path="os.system", args=["echo broken"])
    monkeypatch.setattr("os.system", lambda *_: pytest.fail("os.system was called"))

    runner.start()
    until(lambda: totals()["queue"] == {"failed": 4})
    assert retry(db, [forged.id]) == 1
    good = tasks.add.enqueue(1, 2)
    until(lambda: totals()["queue"] == {"failed": 4, "finished": 1})
    assert not runner.stop()

    good.refresh()
    result = task_backends["default"].get_result(str(forged.id))
    assert (good.status, result.status) == (TaskResultStatus.SUCCESSFUL, TaskResultStatus.FAILED)
    path = "dj_queue.exceptions.InvalidTaskPath"
    assert [error.exception_class_path for error in result.errors] == [path, path]


def test_a_worker_claims_no_more_jobs_than_it_has_threads(runner):
    for _ in range(10):
        tasks.wait_at_gate.enqueue()

    runner.start()
    until(lambda: totals()["queue"] == {"claimed": 3, "ready": 7})
    tasks.GATE.set()
    until(lambda: totals()["queue"] == {"finished": 10})

    assert not runner.stop()


def test_a_due_job_is_dispatched_and_run(runner):
    soon = timezone.for_project(timezone.now() + timedelta(seconds=0.3))
    result = tasks.add.using(run_after=soon).enqueue(1, 2)
    assert counts(queue_database("default")) == {"scheduled": 1}

    runner.start()
    until(lambda: totals()["queue"] == {"finished": 1})
    runner.stop()

    result.refresh()
    assert result.started_at >= soon


def test_stop_lets_running_jobs_end_and_claims_no_more(runner):
    tasks.wait_at_gate.enqueue()
    runner.start()
    assert tasks.ARRIVED.wait(30)
    finished = []
    task_finished.connect(lambda **_: finished.append(1), weak=False, dispatch_uid="test")

    tasks.GATE.set()
    left = runner.stop()
    tasks.add.enqueue(1, 2)

    task_finished.disconnect(dispatch_uid="test")
    assert (bool(left), finished) == (False, [1])
    assert totals()["queue"] == {"finished": 1, "ready": 1}


def test_a_job_that_does_not_end_in_time_is_failed_and_stays_so(runner):
    result = tasks.wait_at_gate.enqueue()
    runner.start()
    assert tasks.ARRIVED.wait(30)
    runner.shutdown_timeout = 0.0

    assert runner.stop() == Leftovers(abandoned_count=1, lost_count=0)

    db = queue_database("default")
    failed = db.objects(FailedExecution).get()
    assert failed.exception_path == "dj_queue.exceptions.ProcessExited"
    assert db.objects(ClaimedExecution).count() == 0
    # The thread lives on; what it returns is nobody's business any more.
    tasks.GATE.set()
    result.refresh()
    assert result.status == TaskResultStatus.FAILED


def test_a_job_that_will_run_again_stays_claimed_until_its_process_is_dead(runner):
    # Its thread may still be at work: started elsewhere now, it would run twice at once.
    db = queue_database("default")
    tasks.wait_at_gate.using(max_attempts=2).enqueue()
    runner.start()
    assert tasks.ARRIVED.wait(30)
    [process_id] = db.objects(ClaimedExecution).values_list("process_id", flat=True)
    runner.shutdown_timeout = 0.0

    left = runner.stop()
    before = counts(db), db.objects(Process).filter(pk=process_id).exists()
    recover(db, [process_id], ProcessExited("it is dead"), now=timezone.now())

    assert left == Leftovers(abandoned_count=1, lost_count=0)
    assert before == ({"claimed": 1}, True)
    [row] = db.objects(ScheduledExecution)
    assert row.attempt == 2
    assert not db.objects(Process).exists()


def test_a_claim_that_the_stop_did_not_wait_for_is_given_back(runner, monkeypatch):
    # The claim has committed, the stop closes the worker, then the claim returns.
    worker = runner.workers[0]
    db = worker.db
    jobs = store(db, count=2)

    def slow_claim(*args, **kwargs):
        claimed = claim(*args, **kwargs)
        worker.close()
        return claimed

    monkeypatch.setattr("dj_queue.runtime.worker.claim", slow_claim)

    worker.finisher.start()
    worker.registration.confirm(asked_at=seconds_of_life())

    worker.poll()

    worker.finisher.stop(time.monotonic() + 10)
    worker.finisher.join(30)
    assert states(db) == {job.id: ["ready"] for job in jobs}


def test_a_stop_says_when_a_thread_hangs(runner, monkeypatch):
    # The database took the finisher's statement and does not answer.
    answers = Event()
    monkeypatch.setattr("dj_queue.runtime.finisher.finish", lambda *_: answers.wait(60) and [])
    monkeypatch.setattr("dj_queue.runtime.runner.RECORD_SECONDS", 0.1)
    tasks.add.enqueue(1, 2)
    runner.start()
    until(lambda: runner.finishers[queue_database("default")].pending_count == 1)

    left = runner.stop()
    answers.set()

    assert left == Leftovers(abandoned_count=0, lost_count=1, hanging_count=1)


def test_a_recurring_task_fires_and_is_run(settings):
    with options_of(settings, "default", recurring={"often": OFTEN}):
        runner = Runner(units_of(["default", "alerts"]))
        runner.start()
        until(lambda: totals()["queue"].get("finished"))
        left = runner.stop()

    assert [each.db.backend for each in runner.others if isinstance(each, Scheduler)] == ["default"]
    assert not left


def test_no_scheduler_runs_where_nothing_recurs(settings):
    with options_of(settings, "default", scheduler={"dynamic_tasks_enabled": False}):
        kinds = [unit.kind for unit in units_of(["default"])]

    assert kinds == ["worker", "dispatcher"]


def test_a_child_makes_no_connection_that_was_not_inherited(monkeypatch):
    monkeypatch.setitem(connections.settings, "broken", {"ENGINE": "nowhere"})
    pid = os.fork()
    if not pid:
        try:
            forks._begin_anew([])
        except BaseException:
            os._exit(1)
        os._exit(0)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
