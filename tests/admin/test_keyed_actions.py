"""What a message says of jobs with a concurrency key: ready, waiting for a slot, or discarded."""

import pytest

from dj_queue.models import FailedExecution, FinishedExecution, ScheduledExecution
from dj_queue.models.ids import new_id
from dj_queue.operations.enqueue import enqueue
from tests.admin.test_actions import Press
from tests.jobs import EVERY, NOW, build, counts, in_state

# Slots are handed on after a commit.
pytestmark = pytest.mark.django_db(**EVERY, transaction=True)

KEY = {"concurrency_key": "k", "concurrency_limit": 1, "concurrency_seconds": 60}
STATES = {
    "retry": (FailedExecution, "Retried"),
    "run_now": (ScheduledExecution, "Made ready"),
    "again": (FinishedExecution, "Enqueued again"),
}


@pytest.fixture
def act(operator, db):
    """Give a function that acts on jobs and gives the message."""
    press = Press(operator, db)

    def act(action, jobs=(), **fields):
        chosen = {"action": action, "state": STATES[action][0].state, "request": str(new_id())}
        return press.said("jobs", job=[str(job.id) for job in jobs], **chosen | fields)

    return act


@pytest.mark.parametrize("action", STATES)
def test_those_that_wait_for_a_slot_are_told_apart(act, db, action):
    state, done = STATES[action]
    jobs = in_state(db, state, 3, **KEY) + in_state(db, state)

    said = act(action, jobs)

    assert said == f"{done} 2 jobs on {db.alias}. 2 wait for slots of their concurrency keys."
    assert (counts(db)["ready"], counts(db)["blocked"]) == (2, 2)


@pytest.mark.parametrize("action", STATES)
def test_one_that_waits_alone_was_not_made_ready(act, db, action):
    state, done = STATES[action]
    enqueue(db, [build(db, **KEY)], now=NOW)

    said = act(action, in_state(db, state, **KEY))

    assert said == f"{done} 0 jobs on {db.alias}. 1 waits for a slot of its concurrency key."


@pytest.mark.parametrize("action", ["run_now", "again"])
def test_those_that_find_no_slot_and_are_discarded_are_named(act, db, action):
    state, done = STATES[action]
    enqueue(db, [build(db, **KEY)], now=NOW)
    jobs = in_state(db, state, 2, **KEY, discards_on_conflict=True)

    said = act(action, jobs)

    assert said == (
        f"{done} 0 jobs on {db.alias}. "
        "2 found no free slots of their concurrency keys and were discarded."
    )
    assert "blocked" not in counts(db)


def test_a_retried_job_was_attempted_before_and_is_not_discarded(act, db):
    enqueue(db, [build(db, **KEY)], now=NOW)
    jobs = in_state(db, FailedExecution, **KEY, discards_on_conflict=True)

    said = act("retry", jobs)

    assert said == f"Retried 0 jobs on {db.alias}. 1 waits for a slot of its concurrency key."


def test_a_bulk_adds_them_up(act, db, monkeypatch):
    monkeypatch.setattr("dj_queue.admin.actions.BATCH", 2)
    in_state(db, FailedExecution, 5, **KEY)

    said = act("retry", all="yes", confirm="yes")

    assert said == f"Retried 1 job on {db.alias}. 4 wait for slots of their concurrency keys."


def test_a_double_click_says_that_nothing_more_was_done(act, db):
    jobs, request = in_state(db, FinishedExecution, 2, **KEY), str(new_id())
    act("again", jobs, request=request)

    said = act("again", jobs, request=request)

    assert said == f"Enqueued again 0 jobs on {db.alias}. 2 had moved on and were left alone."
    assert counts(db) == {"ready": 1, "blocked": 1, "finished": 2}
