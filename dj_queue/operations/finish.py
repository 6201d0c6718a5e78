"""Finish: record what came of claimed jobs. The holder of the claim wins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from dj_queue.compat import task_backends, task_finished
from dj_queue.engines import engine_for
from dj_queue.engines.base import Claim, claim_of
from dj_queue.models import Attempt, ClaimedExecution, FailedExecution, FinishedExecution, state_of
from dj_queue.operations.execute import Outcome
from dj_queue.operations.transitions import delete_jobs, in_transaction, move, retried
from dj_queue.routers import QueueDatabase


def finish(db: QueueDatabase, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Move claimed jobs to finished or failed, in one transaction for all of them.

    Returns the outcomes recorded. One whose claim is gone, because somebody else owns the job by
    now, is left out and changes nothing; of two for one claim the first counts.
    """
    by_claim: dict[Claim, Outcome] = {}
    for each in outcomes:
        by_claim.setdefault(claim_of(each.claimed), each)
    failed = [each for each in by_claim.values() if each.failure is not None]
    succeeded = [each for each in by_claim.values() if each.failure is None]

    def transaction() -> set[Claim]:
        return _record_failures(db, failed) | _record_successes(db, succeeded)

    # Successes alone may be one statement: no transaction around them.
    recorded = in_transaction(db, transaction) if failed else retried(db, transaction)
    return [outcome for claim, outcome in by_claim.items() if claim in recorded]


def announce(db: QueueDatabase, outcome: Outcome) -> None:
    """Send task_finished, while the task's exception is being handled if there is one.

    Django's own receiver logs that exception. Raises nothing but what no receiver should raise:
    SystemExit and its like.
    """
    sender = type(task_backends[db.backend])
    try:
        if outcome.error is not None:
            raise outcome.error
    except BaseException:
        task_finished.send_robust(sender=sender, task_result=outcome.result)
    else:
        task_finished.send_robust(sender=sender, task_result=outcome.result)


def _record_successes(db: QueueDatabase, outcomes: Sequence[Outcome]) -> set[Claim]:
    if not outcomes:
        return set()
    if db.options.preserve_finished_jobs:
        rows, tokens = [_finished_row(each) for each in outcomes], _tokens(outcomes)
        return engine_for(db).finish(db, rows, tokens)
    with db.atomic(savepoint=False):
        taken = move(db, ClaimedExecution, _ids(outcomes), lambda row: [], tokens=_tokens(outcomes))
        delete_jobs(db, [row.job_id for row in taken])
    return set(map(claim_of, taken))


def _record_failures(db: QueueDatabase, outcomes: Sequence[Outcome]) -> set[Claim]:
    if not outcomes:
        return set()
    by_claim = {claim_of(each.claimed): each for each in outcomes}

    def become(row: ClaimedExecution) -> list[Any]:
        return _failed_rows(row, by_claim[claim_of(row)])

    taken = move(db, ClaimedExecution, _ids(outcomes), become, tokens=_tokens(outcomes))
    return set(map(claim_of, taken))


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
    state = state_of(
        FailedExecution,
        row,
        failed_at=outcome.ended_at,
        exception_path=failure.exception_path,
        message=failure.message,
    )
    return [state, attempt]
