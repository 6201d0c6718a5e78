"""Finish: the holder of the claim wins."""

from datetime import timedelta

import pytest
from django.test import override_settings

from dj_queue.compat import TaskResultStatus, task_finished
from dj_queue.engines import engine_for
from dj_queue.exceptions import ProcessExited
from dj_queue.models import (
    Attempt,
    ClaimedExecution,
    FailedExecution,
    FinishedExecution,
    ReadyExecution,
    ScheduledExecution,
    state_of,
)
from dj_queue.models.ids import new_id
from dj_queue.operations.claim import claim
from dj_queue.operations.execute import abandoned, execute
from dj_queue.operations.finish import announce, finish
from dj_queue.operations.retry import retry
from dj_queue.operations.transitions import in_transaction, move
from dj_queue.timezone import for_project
from tests.jobs import EVERY, LATER, ME, NOW, states, store

pytestmark = pytest.mark.django_db(**EVERY)


def run(db, **columns):
    """Claim and execute one job like this; return its outcome."""
    store(db, **columns)
    [row] = claim(db, ["*"], limit=1, process_id=ME, now=NOW)
    times = iter([NOW, LATER])
    return execute(db, row, clock=lambda: next(times))


def give_back(db, row):
    """Take a claim away from its holder, as recovery does."""
    ids = [row.job_id]
    in_transaction(
        db, lambda: move(db, ClaimedExecution, ids, lambda old: [state_of(ReadyExecution, old)])
    )


def test_a_job_that_returned_is_finished_with_its_value_and_times(db):
    outcome = run(db, args=[2, 3])

    assert finish(db, [outcome]) == [outcome]

    row = db.objects(FinishedExecution).get()
    assert (row.return_value, row.worker_id) == (5, ME)
    assert (row.started_at, row.finished_at) == (NOW, LATER)
    assert states(db) == {row.job_id: ["finished"]}


def test_a_job_that_raised_is_failed_with_its_attempt(db):
    outcome = run(db, task_path="tests.shop.tasks.fail", args=["no \x00 way"])

    finish(db, [outcome])

    failed, attempt = db.objects(FailedExecution).get(), db.objects(Attempt).get()
    assert failed.exception_path == attempt.exception_path == "builtins.ValueError"
    assert failed.message == attempt.message == "no \\x00 way"
    assert "in fail\n    raise ValueError(message)" in attempt.traceback
    assert (attempt.number, attempt.worker_id) == (1, ME)
    assert (attempt.started_at, attempt.ended_at, failed.failed_at) == (NOW, LATER, LATER)
    assert states(db) == {failed.job_id: ["failed"]}


def test_a_job_with_attempts_left_waits_for_the_next_one(db):
    outcome = run(db, task_path="tests.shop.retries.stumble", args=["oh"], max_attempts=3)

    assert finish(db, [outcome]) == [outcome]

    waiting, attempt = db.objects(ScheduledExecution).get(), db.objects(Attempt).get()
    assert (waiting.attempt, waiting.run_after) == (2, LATER + timedelta(minutes=1))
    assert waiting.run_after == outcome.retry_at
    assert (attempt.number, attempt.exception_path) == (1, "builtins.ValueError")
    assert "in stumble\n    raise ValueError(message)" in attempt.traceback
    assert states(db) == {waiting.job_id: ["scheduled"]}


def test_a_job_that_need_not_wait_is_ready_again_and_workers_are_woken(db, monkeypatch):
    woken = []
    outcome = run(db, task_path="tests.shop.retries.stumble_at_once", args=[], max_attempts=3)
    monkeypatch.setattr(
        type(engine_for(db)), "wake", lambda engine, db, queues: woken.extend(queues)
    )

    finish(db, [outcome])

    assert db.objects(ReadyExecution).get().attempt == 2
    assert states(db) == {outcome.claimed.job_id: ["ready"]}
    assert woken == ["default"]


def test_who_lost_the_claim_cannot_have_the_job_attempted_again(db):
    stale = run(db, task_path="tests.shop.retries.stumble", args=["oh"], max_attempts=3)
    give_back(db, stale.claimed)

    assert finish(db, [stale]) == []
    assert states(db) == {stale.claimed.job_id: ["ready"]}
    assert db.objects(Attempt).count() == 0


def test_a_job_given_up_by_its_process_is_attempted_again_if_it_may(db):
    columns = {"task_path": "tests.shop.retries.stumble", "args": ["oh"]}
    more, last = store(db, max_attempts=2, **columns) + store(db, max_attempts=1, **columns)
    rows = claim(db, ["*"], limit=2, process_id=ME, now=NOW)

    finish(db, [abandoned(row, ProcessExited("stopped"), now=LATER) for row in rows])

    assert states(db) == {more.id: ["scheduled"], last.id: ["failed"]}
    paths = db.objects(Attempt).values_list("exception_path", flat=True)
    assert set(paths) == {"dj_queue.exceptions.ProcessExited"}


def test_only_the_last_attempt_is_announced_as_finished(db, events):
    seen = []

    def receiver(task_result, **_):
        seen.append(task_result.status)

    columns = {"task_path": "tests.shop.retries.stumble_at_once", "args": [], "max_attempts": 2}
    first = run(db, **columns)
    finish(db, [first])
    [row] = claim(db, ["*"], limit=1, process_id=ME, now=LATER)
    second = execute(db, row, clock=lambda: LATER)
    task_finished.connect(receiver)
    try:
        announce(db, first)
        before = list(seen)
        announce(db, second)
    finally:
        task_finished.disconnect(receiver)

    assert (before, seen) == ([], [TaskResultStatus.FAILED])
    payload = {"backend": db.backend, "database": db.alias, "job": row.job_id, "attempt": 2}
    payload |= {"at": LATER, "error": "builtins.ValueError"}
    assert events() == [("job_retried", payload)]


def test_an_outcome_is_recorded_once(db):
    outcome = run(db)

    assert finish(db, [outcome]) == [outcome]
    assert finish(db, [outcome]) == []
    assert states(db) == {outcome.claimed.job_id: ["finished"]}


def test_of_two_outcomes_of_one_claim_the_first_counts(db):
    done = run(db)
    late = abandoned(done.claimed, ValueError("too late"), now=LATER)

    assert finish(db, [done, late]) == [done]
    assert states(db) == {done.claimed.job_id: ["finished"]}


def test_who_lost_the_claim_cannot_finish_the_job(db):
    stale = run(db, args=["stale", ""])
    give_back(db, stale.claimed)

    assert finish(db, [stale]) == []
    assert states(db) == {stale.claimed.job_id: ["ready"]}


def test_who_lost_the_claim_cannot_finish_the_next_holders(db):
    stale = run(db)
    give_back(db, stale.claimed)
    # The same process claims it again: only the token tells the two apart.
    [row] = claim(db, ["*"], limit=1, process_id=ME, now=NOW)
    rightful = abandoned(row, ValueError("the rightful outcome"), now=NOW)

    assert finish(db, [stale]) == []
    assert finish(db, [stale, rightful]) == [rightful]
    assert states(db) == {row.job_id: ["failed"]}


def test_finishing_some_that_are_lost_records_the_others(db):
    outcomes = [run(db) for _ in range(3)]
    give_back(db, outcomes[1].claimed)

    recorded = finish(db, outcomes)

    assert {id(each) for each in recorded} == {id(outcomes[0]), id(outcomes[2])}


def test_finished_jobs_are_deleted_where_they_are_not_preserved(db, settings):
    tasks = settings.TASKS
    own = tasks[db.backend]
    options = {**own["OPTIONS"], "preserve_finished_jobs": False}
    with override_settings(TASKS={**tasks, db.backend: {**own, "OPTIONS": options}}):
        done, lost = run(db), run(db)
        failed = run(db, task_path="tests.shop.tasks.fail", args=["no"])
        give_back(db, lost.claimed)

        assert len(finish(db, [done, lost, failed])) == 2

    assert states(db) == {lost.claimed.job_id: ["ready"], failed.claimed.job_id: ["failed"]}
    assert db.objects(Attempt).count() == 1


def test_a_retried_job_knows_its_earlier_attempts(db):
    outcome = run(db, task_path="tests.shop.tasks.leave", args=[])
    finish(db, [outcome])
    job_id = outcome.claimed.job_id

    assert retry(db, [job_id, new_id()]) == 1
    assert retry(db, [job_id]) == 0
    [row] = claim(db, ["*"], limit=1, process_id=new_id(), now=LATER)
    again = execute(db, row, clock=lambda: LATER + timedelta(minutes=1))

    assert row.attempt == 2
    assert again.result.status == TaskResultStatus.FAILED
    assert [error.exception_class for error in again.result.errors] == [SystemExit, SystemExit]
    assert again.result.worker_ids == [str(ME), str(row.process_id)]
    assert (again.result.started_at, again.result.attempts) == (for_project(NOW), 2)
    finish(db, [again])
    numbers = db.objects(Attempt).order_by("number").values_list("number", flat=True)
    assert list(numbers) == [1, 2]
