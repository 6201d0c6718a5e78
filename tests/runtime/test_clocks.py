"""Hosts whose clocks are wrong: what is due, and who is alive, the database's clock says."""

from datetime import UTC, datetime, timedelta

import pytest

from dj_queue import recurring
from dj_queue.compat import task_backends
from dj_queue.conf import WorkerOptions
from dj_queue.engines.clock import present
from dj_queue.models import (
    FinishedExecution,
    Process,
    RecurringTask,
    ScheduledExecution,
)
from dj_queue.runtime.dispatcher import Dispatcher
from dj_queue.runtime.finisher import Finisher
from dj_queue.runtime.lost import LostProcesses
from dj_queue.runtime.process import Heartbeat
from dj_queue.runtime.pruner import Pruner
from dj_queue.runtime.scheduler import Scheduler
from dj_queue.runtime.worker import Worker
from dj_queue.timezone import for_project
from tests.jobs import EVERY, counts, in_state
from tests.recurring import put
from tests.runtime.units import end, registered
from tests.shop import retries, tasks

pytestmark = [
    pytest.mark.django_db(transaction=True, **EVERY),
    pytest.mark.usefixtures("needs_server"),
]

FAST, SLOW = timedelta(minutes=10), -timedelta(minutes=10)
SOON = timedelta(minutes=5)
NEARLY = timedelta(seconds=30)


def from_now(delay):
    """Give a moment by a clock that is right."""
    return datetime.now(UTC) + delay


def test_a_dispatcher_on_a_fast_host_makes_no_job_ready_early(db, host_clock):
    tasks.add.using(backend=db.backend, run_after=for_project(from_now(SOON))).enqueue(1, 2)
    host_clock(FAST)

    Dispatcher(registered(db)).poll()

    assert counts(db) == {"scheduled": 1}


def test_a_dispatcher_on_a_slow_host_makes_no_job_ready_late(db, host_clock):
    in_state(db, ScheduledExecution)
    db.objects(ScheduledExecution).update(run_after=from_now(-SOON))
    host_clock(SLOW)

    Dispatcher(registered(db)).poll()

    assert counts(db) == {"ready": 1}


@pytest.mark.parametrize("by", [FAST, SLOW])
@pytest.mark.parametrize("is_relative", [True, False])
def test_a_job_of_a_host_whose_clock_is_wrong_waits_as_long(db, host_clock, by, is_relative):
    host_clock(by)
    run_after = SOON if is_relative else for_project(from_now(SOON))
    task = tasks.add.using(backend=db.backend, run_after=run_after)

    task.enqueue(1, 2)
    task_backends[db.backend].enqueue_all([(task, (1, 2), {})])

    due = list(db.objects(ScheduledExecution).values_list("run_after", flat=True))
    assert len(due) == 2
    assert all(abs(each - from_now(SOON)) < NEARLY for each in due)


def test_a_time_that_is_past_means_now_on_a_slow_host_too(db, host_clock):
    host_clock(SLOW)

    task = tasks.add.using(backend=db.backend, run_after=for_project(from_now(-SOON)))
    task.enqueue(1, 2)

    # What its clock says of it is not asked: the database's says that it is due.
    assert counts(db) == {"ready": 1}


@pytest.mark.parametrize("by", [FAST, SLOW])
def test_the_next_attempt_waits_as_long_on_a_host_whose_clock_is_wrong(db, host_clock, by):
    retries.stumble.using(backend=db.backend).enqueue("oops")
    host_clock(by)
    present(db)  # As its heartbeat does.
    finisher, options = Finisher(db), WorkerOptions()
    worker = Worker(registered(db, options), options, finisher)
    finisher.start()

    worker.poll()
    end(worker)

    [due] = db.objects(ScheduledExecution).values_list("run_after", flat=True)
    assert abs(due - from_now(timedelta(minutes=1))) < NEARLY


def test_a_recurring_task_does_not_fire_early_on_a_fast_host(db, host_clock):
    put(db, next_run_at=from_now(SOON))
    host_clock(FAST)

    Scheduler(registered(db)).poll()

    assert counts(db) == {}


@pytest.mark.parametrize("by", [timedelta(hours=23), -timedelta(hours=23)])
def test_a_task_scheduled_on_a_host_whose_clock_is_wrong_leaves_nothing_out(db, host_clock, by):
    host_clock(by)
    recurring.schedule(key="k", task=tasks.sweep, schedule="* * * * *", backend=db.backend)

    def cursor():
        return db.objects(RecurringTask).get().next_run_at

    assert abs(cursor() - from_now(timedelta())) < timedelta(seconds=90)
    recurring.disable("k", backend=db.backend)
    recurring.enable("k", backend=db.backend)
    assert abs(cursor() - from_now(timedelta())) < timedelta(seconds=90)


def test_a_pruner_on_a_fast_host_removes_nothing_too_early(db, host_clock):
    in_state(db, FinishedExecution)
    db.objects(FinishedExecution).update(finished_at=from_now(-SOON))
    host_clock(timedelta(days=2))

    Pruner(db).step()

    assert counts(db) == {"finished": 1}


def test_who_beats_is_alive_whichever_host_looks(db, host_clock):
    registration = registered(db)
    host_clock(timedelta(hours=-1))
    Heartbeat([registration]).beat()
    host_clock(timedelta(hours=1))
    lost = LostProcesses(db)

    lost.step()

    assert lost._seen == {}
    [row] = db.objects(Process).filter(pk=registration.id)
    assert abs(row.last_heartbeat_at - from_now(timedelta())) < NEARLY
