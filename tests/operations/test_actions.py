"""What operators do to jobs: discard, clear, run now, enqueue again."""

import pytest

from dj_queue.models import (
    STATES,
    BlockedExecution,
    ClaimedExecution,
    FailedExecution,
    FinishedExecution,
    Job,
    ReadyExecution,
    ScheduledExecution,
)
from dj_queue.models.ids import new_id
from dj_queue.operations.again import copy_id, enqueue_again
from dj_queue.operations.discard import clear, discard
from dj_queue.operations.dispatch import run_now
from tests.jobs import EVERY, LATER, NOW, counts, ids, in_state, sibling_of, states, store

pytestmark = pytest.mark.django_db(**EVERY)

DISCARDABLE = (ReadyExecution, ScheduledExecution, BlockedExecution, FailedExecution)


@pytest.mark.parametrize("state", DISCARDABLE)
def test_discarded_jobs_leave_nothing_behind(db, state):
    gone, stays = in_state(db, state, count=2)

    assert discard(db, state, [gone.id]) == 1
    assert states(db) == {stays.id: [state.state]}


@pytest.mark.parametrize("state", DISCARDABLE)
def test_a_job_that_moved_on_is_not_discarded(db, state):
    (job,) = in_state(db, ClaimedExecution)

    assert discard(db, state, [job.id]) == 0
    assert states(db) == {job.id: ["claimed"]}


@pytest.mark.parametrize("state", [state for state in STATES if state not in DISCARDABLE])
def test_what_runs_or_has_run_is_not_discarded(db, state):
    in_state(db, state)

    with pytest.raises(ValueError, match=f"expected one of ready, .* got '{state.state}'"):
        discard(db, state, ids(db))
    assert counts(db) == {state.state: 1}


def test_jobs_of_a_sibling_backend_are_not_discarded(db):
    (job,) = store(sibling_of(db))

    assert discard(db, ReadyExecution, [job.id]) == 0
    assert clear(db, "default") == 0
    assert states(db) == {job.id: ["ready"]}


def test_clear_discards_the_ready_jobs_of_one_queue(db, monkeypatch):
    monkeypatch.setattr("dj_queue.operations.discard.BATCH", 2)
    store(db, count=5, queue_name="mail")
    store(db, queue_name="mail", run_after=LATER)
    (other,) = store(db, queue_name="post")

    assert clear(db, "mail") == 5
    assert clear(db, "mail") == 0
    assert counts(db) == {"ready": 1, "scheduled": 1}
    assert states(db)[other.id] == ["ready"]


def test_a_scheduled_job_runs_now(db):
    (job,) = store(db, run_after=LATER)

    assert run_now(db, [job.id]) == 1
    assert run_now(db, [job.id]) == 0
    assert states(db) == {job.id: ["ready"]}


def test_a_finished_job_is_enqueued_again_as_a_new_one(db):
    (job,) = in_state(db, FinishedExecution, args=["ä", {"b": [1]}], priority=7, run_after=NOW)

    request = new_id()

    assert enqueue_again(db, [job.id], request=request, now=LATER) == 1

    (copy,) = db.objects(Job).exclude(pk=job.id)
    assert states(db) == {job.id: ["finished"], copy.id: ["ready"]}
    assert (copy.args, copy.priority, copy.enqueued_at) == (["ä", {"b": [1]}], 7, LATER)
    assert copy.id.version == 7
    assert copy.id.int >> 80 == request.int >> 80  # The time in it is the wish's.


def test_copies_are_greater_than_the_wish_and_all_that_was_made_before_it():
    request = new_id()

    assert all(copy_id(new_id(), request) > request for _ in range(1_000))


def test_a_repeated_wish_enqueues_nothing(db):
    jobs, request = in_state(db, FinishedExecution, count=2), new_id()

    wishes = [enqueue_again(db, [jobs[0].id], request=request, now=NOW) for _ in range(2)]
    other = enqueue_again(db, [job.id for job in jobs], request=request, now=NOW)

    assert (wishes, other) == ([1, 0], 1)
    assert counts(db) == {"ready": 2, "finished": 2}


def test_a_job_that_has_not_finished_is_not_enqueued_again(db):
    (job,) = store(db)

    assert enqueue_again(db, [job.id], request=new_id(), now=NOW) == 0
    assert counts(db) == {"ready": 1}
