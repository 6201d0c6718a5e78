"""The dispatcher: each of its duties gets its turn, whatever the others have to do."""

import pytest
from django.db import OperationalError

from dj_queue.conf import DispatcherOptions
from dj_queue.models import ClaimedExecution, ScheduledExecution
from dj_queue.models.ids import new_id
from dj_queue.runtime import dispatcher as module
from dj_queue.runtime import lost as lost_module
from dj_queue.runtime.dispatcher import Dispatcher
from dj_queue.runtime.scheduler import Scheduler
from tests.jobs import EVERY, NOW, counts, in_state
from tests.recurring import put, runs
from tests.runtime.units import registered

pytestmark = pytest.mark.django_db(**EVERY)


class Seconds:
    """Monotonic seconds, of which one passes at each look."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def dispatcher(db, monkeypatch):
    """Give a dispatcher that takes two due jobs at a time, on a clock that runs as it works."""
    monkeypatch.setattr(module, "time", Seconds())
    dispatcher = Dispatcher(registered(db))
    dispatcher.options = DispatcherOptions(batch_size=2)
    return dispatcher


def watched(dispatcher, work=None):
    """Note each step of the dispatcher's duties by number; `work` gives what some do instead."""
    steps = []

    def watch(number, step):
        def noted():
            steps.append(number)
            return (work or {}).get(number, step)()

        return noted

    for number, duty in enumerate(dispatcher.duties):
        duty.step = watch(number, duty.step)
    return steps


def test_every_duty_gets_its_turn_before_a_backlog_is_dispatched(db, dispatcher):
    in_state(db, ScheduledExecution, 100)
    db.objects(ScheduledExecution).update(run_after=NOW)
    steps = watched(dispatcher)

    delays = [dispatcher.poll() for _ in range(20)]

    assert counts(db) == {"ready": 40, "scheduled": 60}
    # Of three other duties the first is due every five seconds, of which four pass in a round.
    assert {number: steps[:30].count(number) > 0 for number in range(4)} == dict.fromkeys(
        range(4), True
    )
    assert steps.count(1) >= 5
    assert set(delays) == {0}


@pytest.mark.parametrize("busy", range(4))
def test_a_duty_that_always_has_more_to_do_delays_no_other(dispatcher, busy):
    steps = watched(dispatcher, {busy: lambda: True})

    for _ in range(100):
        dispatcher.poll()

    assert {number: number in steps for number in range(4)} == dict.fromkeys(range(4), True)
    assert steps.count(busy) >= 100


@pytest.mark.parametrize("broken", range(4))
@pytest.mark.parametrize("error", [OperationalError("lock timeout"), ValueError("unexpected")])
def test_a_duty_that_always_fails_keeps_no_other_from_its_turn(dispatcher, broken, error):
    def fail():
        raise error

    steps = watched(dispatcher, {broken: fail})

    for _ in range(100):
        try:
            dispatcher.poll()
        except type(error):
            pass

    assert {number: number in steps for number in range(4)} == dict.fromkeys(range(4), True)


def test_a_lost_process_with_many_claims_is_recovered_a_batch_at_a_time(
    db, dispatcher, monkeypatch, events
):
    monkeypatch.setattr(lost_module, "BATCH_SIZE", 3)
    monkeypatch.setattr("dj_queue.operations.recover.BATCH_SIZE", 3)
    in_state(db, ClaimedExecution, 7, max_attempts=1)
    db.objects(ClaimedExecution).update(process_id=new_id())
    lost = lost_module.LostProcesses(db)
    lost.step()
    lost.confirm_seconds = 0

    seen = []
    while lost.step():
        seen.append(counts(db).get("failed"))

    assert seen == [3, 6, 7]
    [payload] = [payload for event, payload in events() if event == "process_pruned"]
    assert (payload["ready"], payload["ended"]) == (0, 7)


def test_a_round_of_recurring_tasks_ends_when_its_time_is_over(db, monkeypatch):
    scheduler = Scheduler(registered(db))
    monkeypatch.setattr("dj_queue.runtime.scheduler.present", lambda db: NOW)
    monkeypatch.setattr("dj_queue.runtime.scheduler.ROUND_SECONDS", -1.0)
    for number in range(3):
        put(db, f"t{number}")

    assert [scheduler.poll() for _ in range(3)] == [0, 0, 5]
    assert runs(db) == [NOW] * 3


def test_a_scheduler_that_is_stopped_fires_no_other_task(db, monkeypatch):
    scheduler = Scheduler(registered(db))
    monkeypatch.setattr("dj_queue.runtime.scheduler.present", lambda db: NOW)
    for number in range(3):
        put(db, f"t{number}")
    scheduler.stop()

    scheduler.poll()

    assert runs(db) == [NOW]
