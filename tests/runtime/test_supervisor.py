"""Workers in this process, on all backends."""

import time
from datetime import timedelta
from threading import Event

import pytest
from django.utils import timezone

from dj_queue.compat import TaskResultStatus, task_backends, task_finished
from dj_queue.models import ClaimedExecution, FailedExecution
from dj_queue.operations.claim import claim
from dj_queue.operations.retry import retry
from dj_queue.routers import queue_database
from dj_queue.runtime.supervisor import Leftovers, Supervisor
from tests.jobs import EVERY, counts, states, store
from tests.shop import tasks

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

BACKENDS = ["default", "alerts", "bulk"]


@pytest.fixture
def supervisor():
    tasks.GATE.clear()
    tasks.ARRIVED.clear()
    supervisor = Supervisor(BACKENDS)
    yield supervisor
    tasks.GATE.set()


def until(condition, seconds=30.0):
    """Wait for something another thread will do."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def totals():
    aliases = {"queue": queue_database("default"), "bulk": queue_database("bulk")}
    return {alias: counts(db) for alias, db in aliases.items()}


def test_every_backends_jobs_are_run_by_its_own_workers(supervisor):
    results = [tasks.who.using(backend=name).enqueue() for name in BACKENDS for _ in range(5)]

    supervisor.start()
    until(lambda: totals() == {"queue": {"finished": 10}, "bulk": {"finished": 5}})

    assert not supervisor.stop()
    for result in results:
        result.refresh()
        alias = queue_database(result.backend).alias
        assert result.return_value.startswith(f"task {result.backend}@{alias}")
        assert result.worker_ids == [str(supervisor.process_id)]
        assert result.enqueued_at < result.started_at <= result.finished_at


def test_failures_and_forged_rows_leave_the_worker_at_work(supervisor, monkeypatch):
    db = queue_database("default")
    tasks.fail.enqueue("x")
    tasks.leave.enqueue()
    tasks.return_moment.enqueue()
    [forged] = store(db, task_path="os.system", args=["echo broken"])
    monkeypatch.setattr("os.system", lambda *_: pytest.fail("os.system was called"))

    supervisor.start()
    until(lambda: totals()["queue"] == {"failed": 4})
    assert retry(db, [forged.id]) == 1
    good = tasks.add.enqueue(1, 2)
    until(lambda: totals()["queue"] == {"failed": 4, "finished": 1})
    assert not supervisor.stop()

    good.refresh()
    result = task_backends["default"].get_result(str(forged.id))
    assert (good.status, result.status) == (TaskResultStatus.SUCCESSFUL, TaskResultStatus.FAILED)
    path = "dj_queue.exceptions.InvalidTaskPath"
    assert [error.exception_class_path for error in result.errors] == [path, path]


def test_a_worker_claims_no_more_jobs_than_it_has_threads(supervisor):
    for _ in range(10):
        tasks.wait_at_gate.enqueue()

    supervisor.start()
    until(lambda: totals()["queue"] == {"claimed": 3, "ready": 7})
    tasks.GATE.set()
    until(lambda: totals()["queue"] == {"finished": 10})

    assert not supervisor.stop()


def test_a_due_job_is_dispatched_and_run(supervisor):
    soon = timezone.now() + timedelta(seconds=0.3)
    result = tasks.add.using(run_after=soon).enqueue(1, 2)
    assert counts(queue_database("default")) == {"scheduled": 1}

    supervisor.start()
    until(lambda: totals()["queue"] == {"finished": 1})
    supervisor.stop()

    result.refresh()
    assert result.started_at >= soon


def test_stop_lets_running_jobs_end_and_claims_no_more(supervisor):
    tasks.wait_at_gate.enqueue()
    supervisor.start()
    assert tasks.ARRIVED.wait(30)
    finished = []
    task_finished.connect(lambda **_: finished.append(1), weak=False, dispatch_uid="test")

    tasks.GATE.set()
    left = supervisor.stop()
    tasks.add.enqueue(1, 2)

    task_finished.disconnect(dispatch_uid="test")
    assert (bool(left), finished) == (False, [1])
    assert totals()["queue"] == {"finished": 1, "ready": 1}


def test_a_job_that_does_not_end_in_time_is_failed_and_stays_so(supervisor):
    result = tasks.wait_at_gate.enqueue()
    supervisor.start()
    assert tasks.ARRIVED.wait(30)
    supervisor.shutdown_timeout = 0.0

    assert supervisor.stop() == Leftovers(abandoned_count=1, lost_count=0)

    db = queue_database("default")
    failed = db.objects(FailedExecution).get()
    assert failed.exception_path == "dj_queue.exceptions.ProcessExited"
    assert db.objects(ClaimedExecution).count() == 0
    # The thread lives on; what it returns is nobody's business any more.
    tasks.GATE.set()
    result.refresh()
    assert result.status == TaskResultStatus.FAILED


def test_a_claim_that_the_stop_did_not_wait_for_is_given_back(supervisor, monkeypatch):
    # The claim has committed, the stop closes the worker, then the claim returns.
    worker = supervisor.workers[0]
    db = worker.db
    jobs = store(db, count=2)

    def slow_claim(*args, **kwargs):
        claimed = claim(*args, **kwargs)
        worker.close()
        return claimed

    monkeypatch.setattr("dj_queue.runtime.worker.claim", slow_claim)

    worker.poll()

    assert states(db) == {job.id: ["ready"] for job in jobs}


def test_a_stop_says_when_a_thread_hangs(supervisor, monkeypatch):
    # The database took the finisher's statement and does not answer.
    answers = Event()
    monkeypatch.setattr("dj_queue.runtime.finisher.finish", lambda *_: answers.wait(60) and [])
    monkeypatch.setattr("dj_queue.runtime.supervisor.RECORD_SECONDS", 0.1)
    tasks.add.enqueue(1, 2)
    supervisor.start()
    until(lambda: supervisor.finishers[0].pending_count == 1)

    left = supervisor.stop()
    answers.set()

    assert left == Leftovers(abandoned_count=0, lost_count=1, hanging_count=1)
