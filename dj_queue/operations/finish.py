"""Finish: record what came of claimed jobs. The holder of the claim wins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import Error

from dj_queue.compat import task_finished
from dj_queue.engines import engine_for
from dj_queue.engines.claims import Claim, HandedOn, Heir, claim_of
from dj_queue.engines.minutes import Ended, minutes_of
from dj_queue.events import log
from dj_queue.models import (
    Attempt,
    ClaimedExecution,
    Execution,
    FailedExecution,
    FinishedExecution,
    ScheduledExecution,
    state_of,
)
from dj_queue.operations.concurrency import waiting_state
from dj_queue.operations.execute import Outcome
from dj_queue.operations.failure import Failure
from dj_queue.operations.receivers import tell
from dj_queue.operations.slots import settle
from dj_queue.operations.transitions import delete_jobs, in_transaction, move, retried
from dj_queue.routers import Database, QueueDatabase
from dj_queue.signals import attempt_failed
from dj_queue.timezone import for_project


def finish(db: QueueDatabase, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Move claimed jobs to finished, failed or their next attempt, in one transaction for all.

    Slots of concurrency keys are handed on in the same transaction; a job that is attempted again
    at once waits for one like any other. Returns the outcomes recorded. One whose claim is gone,
    because somebody else owns the job by now, is left out and changes nothing; of two for one claim
    the first counts. Errors with characters that the database cannot store are stored escaped.
    """
    return finish_and_inherit(db, outcomes, None)[0]


def finish_and_inherit(
    db: QueueDatabase, outcomes: Sequence[Outcome], heir: Heir | None
) -> tuple[list[Outcome], HandedOn]:
    """As `finish`; return as well who got the slots, of whom `heir` holds some from now on.

    The transaction claims them for it. Should its answer be lost, they are claimed under the
    heir's token, or not.
    """
    by_claim: dict[Claim, Outcome] = {}
    for each in outcomes:
        by_claim.setdefault(claim_of(each.claimed), each)
    failed = [each for each in by_claim.values() if each.failure is not None]
    succeeded = [each for each in by_claim.values() if each.failure is None]
    jobs = [each.claimed.job for each in by_claim.values()]
    keys = {job.id: job.concurrency_key for job in jobs if job.concurrency_key is not None}

    def transaction() -> tuple[set[Claim], HandedOn]:
        recorded = _record_failures(db, failed) | _record_successes(db, succeeded)
        ended = {job_id: keys[job_id] for job_id, _ in recorded if job_id in keys} if keys else {}
        if not ended:
            return recorded, HandedOn()
        now = max(each.ended_at for each in by_claim.values())
        return recorded, settle(db, ended.values(), now=now, ended=ended, heir=heir)

    # Successes alone may be one statement: no transaction around them.
    run = retried if not failed and not keys else in_transaction
    try:
        recorded, handed = run(db, transaction)
    except (Error, UnicodeEncodeError) as error:
        if not failed or not engine_for(db).is_untranslatable(error):
            raise
        for each in failed:
            assert each.failure is not None
            each.failure = each.failure.in_ascii()
        recorded, handed = run(db, transaction)
    if len(recorded) == len(by_claim):  # As ever: a look-up costs much, an id's hash is Python.
        return list(by_claim.values()), handed
    return [each for claim, each in by_claim.items() if claim in recorded], handed


def recorded_before(db: Database, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return those of lost claims that an earlier `finish` recorded, whose answer was lost.

    Not jobs that are deleted when they end: they leave no trace.
    """
    ids = _ids(outcomes)
    ended = db.objects(FinishedExecution).filter(pk__in=ids)
    failed = db.objects(Attempt).filter(job_id__in=ids)
    found = {
        *ended.values_list("job_id", "attempt", "worker_id"),
        *failed.values_list("job_id", "number", "worker_id"),
    }
    return [
        each
        for each in outcomes
        if (each.claimed.job_id, each.claimed.attempt, each.claimed.process_id) in found
    ]


def announce(db: QueueDatabase, outcome: Outcome) -> bool:
    """Send attempt_failed and task_finished, while the task's exception is handled if there is one.

    Django's own receiver logs that exception. A job that is attempted again is not finished: of
    that there is a log event. Tells whether all receivers returned; raises as `tell`.
    """
    try:
        if outcome.error is not None:
            raise outcome.error
    except BaseException:
        have_returned = _announce_failure(db, outcome)
        if outcome.retry_at is not None:
            return have_returned
        return tell(task_finished, db, outcome.result) and have_returned
    return tell(task_finished, db, outcome.result)


def _announce_failure(db: QueueDatabase, outcome: Outcome) -> bool:
    attempt = outcome.claimed.attempt
    if outcome.retry_at is not None:
        log(
            "job_retried",
            backend=db.backend,
            database=db.alias,
            job=outcome.claimed.job_id,
            attempt=attempt + 1,
            at=outcome.retry_at,
            error=outcome.failure and outcome.failure.exception_path,
            exc_info=outcome.error,
        )
    return tell(
        attempt_failed,
        db,
        outcome.result,
        attempt=attempt,
        exception=outcome.error,
        retry_at=for_project(outcome.retry_at),
    )


def _record_successes(db: QueueDatabase, outcomes: Sequence[Outcome]) -> set[Claim]:
    if not outcomes:
        return set()
    if db.options.preserve_finished_jobs:
        rows, tokens = [_finished_row(each) for each in outcomes], _tokens(outcomes)
        return engine_for(db).finish(db, rows, tokens, [_waited(each) for each in outcomes])
    with db.atomic(savepoint=False):
        taken = move(db, ClaimedExecution, _ids(outcomes), lambda row: [], tokens=_tokens(outcomes))
        delete_jobs(db, [row.job_id for row in taken])
        recorded = set(map(claim_of, taken))
        _count(db, outcomes, recorded)
    return recorded


def _record_failures(db: QueueDatabase, outcomes: Sequence[Outcome]) -> set[Claim]:
    if not outcomes:
        return set()
    by_claim = {claim_of(each.claimed): each for each in outcomes}

    def become(row: ClaimedExecution) -> list[Any]:
        return _failed_rows(row, by_claim[claim_of(row)])

    taken = move(db, ClaimedExecution, _ids(outcomes), become, tokens=_tokens(outcomes))
    recorded = set(map(claim_of, taken))
    _count(db, outcomes, recorded)
    return recorded


def _count(db: Database, outcomes: Sequence[Outcome], recorded: set[Claim]) -> None:
    """Add attempts to their queues' minutes."""
    ended = [_ended(each) for each in outcomes if claim_of(each.claimed) in recorded]
    engine_for(db).add_minutes(db, minutes_of(ended))


def _ended(outcome: Outcome) -> Ended:
    claimed = outcome.claimed
    return Ended(
        claimed.backend,
        claimed.queue_name,
        claimed.process_id,
        outcome.ended_at,
        waiting_seconds=_waited(outcome),
        running_seconds=(outcome.ended_at - outcome.started_at).total_seconds(),
        is_failed=outcome.failure is not None,
    )


def _waited(outcome: Outcome) -> float:
    """Return how long the job had been due; a repeated attempt's time is not known: as if none."""
    job = outcome.claimed.job
    if outcome.claimed.attempt > 1:
        return 0.0
    due = max(job.enqueued_at, job.run_after or job.enqueued_at)
    return max(0.0, (outcome.started_at - due).total_seconds())


def _ids(outcomes: Sequence[Outcome]) -> list[UUID]:
    return [each.claimed.job_id for each in outcomes]


def _tokens(outcomes: Sequence[Outcome]) -> list[UUID]:
    return [each.claimed.claim_token for each in outcomes]


def _finished_row(outcome: Outcome) -> FinishedExecution:
    return state_of(
        FinishedExecution,
        outcome.claimed,
        worker_id=outcome.claimed.process_id,
        started_at=outcome.started_at,
        finished_at=outcome.ended_at,
        return_value=outcome.return_value,
    )


def _failed_rows(row: ClaimedExecution, outcome: Outcome) -> list[Any]:
    failure = outcome.failure
    assert failure is not None
    attempt = Attempt(
        job_id=row.job_id,
        number=row.attempt,
        worker_id=row.process_id,
        started_at=outcome.started_at,
        ended_at=outcome.ended_at,
        exception_path=failure.exception_path,
        message=failure.message,
        traceback=failure.traceback,
    )
    return [_state_after(row, outcome, failure), attempt]


def _state_after(row: ClaimedExecution, outcome: Outcome, failure: Failure) -> Execution:
    if outcome.retry_at is None:
        return state_of(
            FailedExecution,
            row,
            failed_at=outcome.ended_at,
            exception_path=failure.exception_path,
            message=failure.message,
        )
    attempt = row.attempt + 1
    if outcome.retry_at <= outcome.ended_at:
        job = outcome.claimed.job
        return waiting_state(row, job, now=outcome.ended_at, attempt=attempt)
    return state_of(ScheduledExecution, row, attempt=attempt, run_after=outcome.retry_at)
