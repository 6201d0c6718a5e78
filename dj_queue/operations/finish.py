"""Finish: record what came of claimed jobs. The holder of the claim wins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from dj_queue.compat import task_backends, task_finished
from dj_queue.models import Attempt, ClaimedExecution, FailedExecution, FinishedExecution
from dj_queue.operations.execute import Outcome
from dj_queue.operations.transitions import delete_jobs, in_transaction, move, state_of
from dj_queue.routers import QueueDatabase


def finish(db: QueueDatabase, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Move claimed jobs to finished or failed, in one transaction for all of them.

    Returns the outcomes recorded. One whose claim is gone, because somebody else owns the job by
    now, is left out and changes nothing; of two for one claim the first counts.
    """
    by_claim: dict[tuple[UUID, UUID], Outcome] = {}
    for each in outcomes:
        by_claim.setdefault((each.claimed.job_id, each.claimed.claim_token), each)
    keep = db.options.preserve_finished_jobs

    def become(row: ClaimedExecution) -> list[Any]:
        outcome = by_claim[row.job_id, row.claim_token]
        if outcome.failure is not None:
            return _failed_rows(row, outcome)
        return [_finished_row(row, outcome)] if keep else []

    def transaction() -> list[ClaimedExecution]:
        ids = [job_id for job_id, _ in by_claim]
        tokens = [token for _, token in by_claim]
        taken = move(db, ClaimedExecution, ids, become, tokens=tokens)
        done = [row for row in taken if by_claim[row.job_id, row.claim_token].failure is None]
        if done and not keep:
            delete_jobs(db, [row.job_id for row in done])
        return taken

    taken = in_transaction(db, transaction)
    return [by_claim[row.job_id, row.claim_token] for row in taken]


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


def _finished_row(row: ClaimedExecution, outcome: Outcome) -> FinishedExecution:
    return state_of(
        FinishedExecution,
        row,
        worker_id=row.process_id,
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
