"""Retry: whether and when a failed attempt is followed by another."""

from dataclasses import replace
from datetime import timedelta

import pytest

from dj_queue.backend import DjQueueBackend
from dj_queue.compat import TaskResultStatus
from dj_queue.exceptions import ProcessExited, ProcessPruned
from dj_queue.models import Attempt, FailedExecution, ReadyExecution, ScheduledExecution
from dj_queue.models.ids import new_id
from dj_queue.operations.claim import claim
from dj_queue.operations.dispatch import dispatch_due
from dj_queue.operations.execute import execute
from dj_queue.operations.finish import finish
from dj_queue.operations.retry import next_attempt_at, retry
from dj_queue.results import described_task
from dj_queue.tasks import Retry, RetryPolicy, task
from dj_queue.timezone import for_project
from tests.jobs import EVERY, LATER, ME, NOW, build, states, store
from tests.shop import retries, tasks

pytestmark = pytest.mark.django_db(**EVERY)

MINUTE = timedelta(minutes=1)
NEVER = None


def due(db, made, error, *, attempt=1, max_attempts=3):
    """Give the wait before the next attempt, None when there is none."""
    job = build(db, max_attempts=max_attempts)
    at = next_attempt_at(made.using(backend=db.backend), job, attempt, error, now=NOW)
    return NEVER if at is None else at - NOW


def run(db, *, now=NOW):
    """Claim, execute and finish one job; return its outcome."""
    [row] = claim(db, ["*"], limit=1, process_id=ME, now=now)
    outcome = execute(db, row, clock=lambda: now)
    assert finish(db, [outcome]) == [outcome]
    return outcome


@pytest.mark.parametrize(
    ("attempt", "max_attempts", "wait"),
    [(1, 3, MINUTE), (2, 3, MINUTE), (3, 3, NEVER), (4, 3, NEVER), (1, 1, NEVER)],
)
def test_a_job_is_attempted_as_often_as_it_was_enqueued_for(db, attempt, max_attempts, wait):
    error = ValueError()

    assert due(db, retries.stumble, error, attempt=attempt, max_attempts=max_attempts) == wait


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (ConnectionError(), MINUTE),
        (ConnectionResetError(), MINUTE),
        (BrokenPipeError(), NEVER),
        (ValueError(), NEVER),
        (SystemExit(), NEVER),
        (ProcessExited(), MINUTE),
        (ProcessPruned(), MINUTE),
    ],
)
def test_only_errors_of_retry_on_and_crashes_are_retried(db, error, wait):
    assert due(db, retries.deliver, error) == wait


@pytest.mark.parametrize(
    ("error", "wait"),
    [(ValueError(), MINUTE), (SystemExit(), NEVER), (KeyboardInterrupt(), NEVER)],
)
def test_unless_told_what_is_no_exception_is_not_retried(db, error, wait):
    assert due(db, retries.stumble, error) == wait


def test_told_so_even_system_exit_is_retried(db):
    assert due(db, replace(retries.stumble, retry_on=BaseException), SystemExit()) == MINUTE


def test_give_up_on_holds_for_a_crash(db):
    careful = replace(retries.stumble, give_up_on=(ProcessExited, ProcessPruned))

    assert due(db, careful, ProcessExited()) is NEVER
    assert due(db, careful, ProcessPruned()) is NEVER
    assert due(db, careful, ValueError()) == MINUTE


@pytest.mark.parametrize(
    ("after", "wait"),
    [
        (None, MINUTE),
        (0, timedelta(0)),
        (90, timedelta(seconds=90)),
        (timedelta(hours=2), timedelta(hours=2)),
        (LATER, LATER - NOW),
        (NOW - MINUTE, timedelta(0)),
    ],
)
def test_retry_is_a_request_whatever_the_rules(db, after, wait):
    silent = replace(retries.ask_again, give_up_on=Exception)

    assert due(db, retries.ask_again, Retry(after=after)) == wait
    assert due(db, silent, Retry(after=after)) == wait


def test_retry_with_no_attempt_left_fails_the_job(db):
    assert due(db, retries.ask_again, Retry(after=5), attempt=3) is NEVER


def test_a_task_of_another_decorator_has_the_default_rules(db):
    job = build(db, task_path="tests.shop.tasks.gone", max_attempts=2)

    at = next_attempt_at(described_task(job), job, 1, ValueError(), now=NOW)

    assert timedelta(seconds=8) <= at - NOW <= timedelta(seconds=10)
    assert next_attempt_at(described_task(job), job, 1, SystemExit(), now=NOW) is NEVER


class Raising(type):
    """Classes that cannot even be compared."""

    def __instancecheck__(cls, instance):
        raise RuntimeError("which is which?")


class Odd(Exception, metaclass=Raising):
    """Stands in a filter."""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"backoff": retries.Broken()}, "SystemExit: no idea"),
        ({"backoff": retries.Hazy()}, "ValueError: cannot convert float NaN to integer"),
        ({"give_up_on": Odd}, "RuntimeError: which is which?"),
    ],
)
def test_rules_that_raise_are_logged_and_the_default_is_used(db, events, changes, reason):
    [job] = store(db, max_attempts=3)
    job._state.db = db.alias

    at = next_attempt_at(replace(retries.stumble, **changes), job, 2, ValueError(), now=NOW)

    assert timedelta(seconds=16) <= at - NOW <= timedelta(seconds=20)
    where = {"backend": db.backend, "database": db.alias, "job": job.id}
    assert events() == [("backoff_failed", {**where, "error": reason})]


def test_a_policy_that_raises_does_not_lose_the_job(db, events):
    [job] = store(db, task_path="tests.shop.retries.stumble_without_a_delay", max_attempts=2)

    run(db)

    assert states(db) == {job.id: ["scheduled"]}
    assert [name for name, _ in events()] == ["backoff_failed"]


@pytest.mark.parametrize("path", ["return_a_set", "stumble"])
def test_arguments_and_return_values_that_are_no_good_are_not_retried(db, path):
    args = [] if path == "return_a_set" else {"not": "a list"}
    [job] = store(db, task_path=f"tests.shop.retries.{path}", max_attempts=3, args=args)

    outcome = run(db)

    expected = "InvalidReturnValue" if path == "return_a_set" else "InvalidArguments"
    assert outcome.failure.exception_path == f"dj_queue.exceptions.{expected}"
    assert states(db) == {job.id: ["failed"]}


def test_system_exit_ends_a_job_that_has_attempts_left(db):
    [job] = store(db, task_path="tests.shop.tasks.leave", args=[], max_attempts=3)

    run(db)

    assert states(db) == {job.id: ["failed"]}
    assert db.objects(Attempt).get().exception_path == "builtins.SystemExit"


def test_a_path_that_does_not_import_is_retried(db):
    """Maybe the worker is older than the code that enqueued."""
    [job] = store(db, task_path="tests.shop.tasks.gone", max_attempts=2)

    run(db)

    assert states(db) == {job.id: ["scheduled"]}


def test_every_attempt_is_kept_until_the_last_fails(db):
    [job] = store(db, task_path="tests.shop.retries.stumble", args=["oh"], max_attempts=3)

    first = run(db)
    assert dispatch_due(db, now=NOW, limit=9) == 0
    assert dispatch_due(db, now=NOW + MINUTE, limit=9) == 1
    run(db, now=NOW + MINUTE)
    dispatch_due(db, now=NOW + 2 * MINUTE, limit=9)
    last = run(db, now=NOW + 2 * MINUTE)

    attempts = list(db.objects(Attempt).order_by("number"))
    assert [each.number for each in attempts] == [1, 2, 3]
    assert all("in stumble\n    raise ValueError(message)" in each.traceback for each in attempts)
    assert [each.started_at for each in attempts] == [NOW, NOW + MINUTE, NOW + 2 * MINUTE]
    assert (first.retry_at, last.retry_at) == (NOW + MINUTE, None)
    assert states(db) == {job.id: ["failed"]}
    assert db.objects(FailedExecution).get().attempt == 3


def test_a_task_knows_its_attempt_and_its_earlier_errors(db):
    store(db, task_path="tests.shop.retries.third_time_lucky", args=[], max_attempts=3)

    outcomes = [run(db) for _ in range(3)]

    assert [each.result.status for each in outcomes] == [
        TaskResultStatus.READY,
        TaskResultStatus.READY,
        TaskResultStatus.SUCCESSFUL,
    ]
    assert outcomes[2].return_value == [3, ["builtins.LookupError"] * 2, 3]
    assert len(outcomes[2].result.errors) == 2


def test_a_task_knows_its_attempt_though_the_earlier_are_not_to_be_read(db):
    store(db, task_path="tests.shop.retries.third_time_lucky", args=[], max_attempts=3)
    [row] = claim(db, ["*"], limit=1, process_id=ME, now=NOW)
    row.attempt = 3

    assert execute(db, row, clock=lambda: NOW).return_value == [3, [], 1]


def test_a_result_between_attempts_is_ready_with_its_errors(db):
    [job] = store(db, task_path="tests.shop.retries.ask_again", args=[], max_attempts=2)

    outcome = run(db)

    stored = DjQueueBackend(db.backend, {}).get_result(str(job.id))
    for result in (outcome.result, stored):
        assert (result.status, result.is_finished) == (TaskResultStatus.READY, False)
        assert [each.exception_class for each in result.errors] == [Retry]
        assert (result.worker_ids, result.attempts) == ([str(ME)], 1)
        assert result.started_at == result.last_attempted_at == for_project(NOW)
        assert result.finished_at is None


def test_by_hand_a_failed_job_gets_one_attempt_more_than_it_had(db):
    [job] = store(db, task_path="tests.shop.retries.stumble", args=["oh"], max_attempts=1)
    run(db)

    assert retry(db, [job.id]) == 1
    again = run(db)

    assert again.claimed.attempt == 2
    assert again.retry_at is None
    assert states(db) == {job.id: ["failed"]}
    assert retry(db, [job.id]) == 1
    assert db.objects(ReadyExecution).get().attempt == 3


def test_by_hand_a_job_that_was_given_up_keeps_the_attempts_it_has_left(db):
    [job] = store(
        db, task_path="tests.shop.retries.deliver", args=["BrokenPipeError"], max_attempts=3
    )
    run(db)
    assert states(db) == {job.id: ["failed"]}

    retry(db, [job.id, new_id()])
    db.objects(type(job)).filter(pk=job.pk).update(args=["ConnectionError"])
    again = run(db)

    assert again.claimed.attempt == 2
    assert states(db) == {job.id: ["scheduled"]}


def test_the_delay_comes_from_the_code_as_it_is_when_the_attempt_fails(db, monkeypatch):
    store(db, task_path="tests.shop.retries.stumble", args=["oh"], max_attempts=3)
    slower = task(backoff=RetryPolicy("constant", seconds=600, jitter=0))(tasks.add.func)
    monkeypatch.setattr(retries, "stumble", slower.using(backend="default"))

    outcome = run(db)

    assert outcome.retry_at == NOW + timedelta(minutes=10)
    assert db.objects(ScheduledExecution).get().run_after == NOW + timedelta(minutes=10)
