"""The states of a job: one table each, and a job has a row in exactly one of them.

No foreign key constraint ties them to the job (they cost 5-30 % of the throughput): rows are
written by `operations.transitions` and the claim alone, and an audit query in the tests stands in.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from django.db import models

from dj_queue.models.base import QueueModel
from dj_queue.models.fields import JSONTextField, NameField
from dj_queue.models.jobs import Job

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

    run_after = models.DateTimeField()

    class Meta(QueueModel.Meta):
        indexes = [models.Index(fields=["backend", "run_after"], name="dj_queue_scheduled_due")]


class ClaimedExecution(Execution):
    """Held by a worker process: only who has the token may finish it."""

    state = "claimed"

    process_id = models.UUIDField()
    claim_token = models.UUIDField()
    claimed_at = models.DateTimeField()


class FailedExecution(Execution):
    """Its last attempt raised; stays until it is retried or discarded."""

    state = "failed"

    failed_at = models.DateTimeField()
    exception_path = models.CharField(max_length=255)
    message = models.TextField()


class FinishedExecution(Execution):
    """Ran to its end."""

    state = "finished"

    worker_id = models.UUIDField()
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    return_value = JSONTextField()


STATES: tuple[type[Execution], ...] = (
    ReadyExecution,
    ScheduledExecution,
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
