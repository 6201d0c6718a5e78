"""The states of a job: one table each, and a job has a row in exactly one of them.

Indexes that begin with the queue are for those who look. None of them begins with the backend: a
planner without statistics might take it for one that claims, dispatches or finishes.

No foreign key constraint ties them to the job (they cost 5-30 % of the throughput): rows are
written by `operations.transitions` and the claim alone, and an audit query in the tests stands in.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from django.db import models

from dj_queue.models.base import QueueModel
from dj_queue.models.fields import JSONTextField, MomentField, NameField, UTCDateTimeField
from dj_queue.models.jobs import Job
from dj_queue.parsers import KEY_LENGTH

State = TypeVar("State", bound="Execution")


class Execution(QueueModel):
    """A job in one state. Backend, queue and priority are the job's, so that nothing joins.

    `attempt` is the number of the attempt that waits, runs or ran last, from 1.
    """

    state: ClassVar[str]

    job = models.OneToOneField(
        Job,
        primary_key=True,
        on_delete=models.CASCADE,
        db_constraint=False,
        related_name="%(class)s",
    )
    backend = NameField()
    queue_name = NameField()
    priority = models.SmallIntegerField()
    attempt = models.SmallIntegerField(default=1)

    class Meta(QueueModel.Meta):
        abstract = True

    def __str__(self) -> str:
        return f"{self.state} {self.job_id}"


class ReadyExecution(Execution):
    """Waiting for a worker."""

    state = "ready"

    class Meta(QueueModel.Meta):
        # Both in claim order: for selector "*", and for an exact name or prefix.
        indexes = [
            models.Index(fields=["backend", "-priority", "job"], name="dj_queue_ready_any"),
            models.Index(
                fields=["backend", "queue_name", "-priority", "job"], name="dj_queue_ready_queue"
            ),
        ]


class ScheduledExecution(Execution):
    """Waiting for its time."""

    state = "scheduled"

    run_after = MomentField()

    class Meta(QueueModel.Meta):
        indexes = [
            models.Index(fields=["backend", "run_after"], name="dj_queue_scheduled_due"),
            models.Index(
                fields=["queue_name", "backend", "run_after"], name="dj_queue_scheduled_queue"
            ),
        ]


class BlockedExecution(Execution):
    """Waiting for a slot of its concurrency key; `expires_at` is its duration later."""

    state = "blocked"

    concurrency_key = NameField(max_length=KEY_LENGTH)
    concurrency_limit = models.PositiveSmallIntegerField()
    concurrency_seconds = models.PositiveIntegerField()
    expires_at = UTCDateTimeField()

    class Meta(QueueModel.Meta):
        # In the order in which slots are handed on.
        indexes = [
            models.Index(
                fields=["concurrency_key", "-priority", "job"], name="dj_queue_blocked_key"
            ),
            models.Index(
                fields=["queue_name", "backend", "expires_at"], name="dj_queue_blocked_queue"
            ),
        ]


class ClaimedExecution(Execution):
    """Held by a worker process: only who has the token may finish it."""

    state = "claimed"

    process_id = models.UUIDField()
    claim_token = models.UUIDField()
    claimed_at = UTCDateTimeField()


class FailedExecution(Execution):
    """Its last attempt raised; stays until it is retried or discarded."""

    state = "failed"

    failed_at = UTCDateTimeField()
    exception_path = models.CharField(max_length=255)
    message = models.TextField()

    class Meta(QueueModel.Meta):
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["queue_name", "backend", "job"], name="dj_queue_failed_queue")
        ]


class FinishedExecution(Execution):
    """Ran to its end."""

    state = "finished"

    worker_id = models.UUIDField()
    started_at = UTCDateTimeField()
    finished_at = UTCDateTimeField()
    return_value = JSONTextField()

    class Meta(QueueModel.Meta):
        indexes = [
            models.Index(fields=["queue_name", "backend", "job"], name="dj_queue_finished_queue")
        ]


STATES: tuple[type[Execution], ...] = (
    ReadyExecution,
    ScheduledExecution,
    BlockedExecution,
    ClaimedExecution,
    FailedExecution,
    FinishedExecution,
)


def state_of(kind: type[State], row: Job | Execution, **columns: Any) -> State:
    """Build a state row for a new job, or for the job of a row of another state."""
    if isinstance(row, Job):
        job_id, attempt = row.id, 1
    else:
        job_id, attempt = row.job_id, row.attempt
    attempt = columns.pop("attempt", attempt)
    # By position, as the columns stand: half the time of names.
    return kind(job_id, row.backend, row.queue_name, row.priority, attempt, **columns)
