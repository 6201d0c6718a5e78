"""Jobs and the record of their failed attempts."""

from __future__ import annotations

from django.db import models

from dj_queue.models.base import QueueModel
from dj_queue.models.fields import JSONTextField, MomentField, NameField, UTCDateTimeField
from dj_queue.models.ids import new_id
from dj_queue.parsers import KEY_LENGTH, PATH_LENGTH


class Job(QueueModel):
    """What was asked for: written once, never updated. Where it stands is its Execution."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    backend = NameField()
    queue_name = NameField()
    task_path = models.CharField(max_length=PATH_LENGTH)
    args = JSONTextField()
    kwargs = JSONTextField()
    priority = models.SmallIntegerField()
    run_after = MomentField(null=True)
    enqueued_at = UTCDateTimeField()
    max_attempts = models.PositiveSmallIntegerField(default=1, db_default=1)
    concurrency_key = NameField(max_length=KEY_LENGTH, null=True)
    concurrency_limit = models.PositiveSmallIntegerField(null=True)
    concurrency_seconds = models.PositiveIntegerField(null=True)
    discards_on_conflict = models.BooleanField(null=True)

    class Meta(QueueModel.Meta):
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.task_path} {self.id}"


class Attempt(QueueModel):
    """One failed attempt of a job."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    job = models.ForeignKey(
        Job, on_delete=models.CASCADE, db_constraint=False, related_name="attempts"
    )
    number = models.PositiveSmallIntegerField()
    worker_id = models.UUIDField()
    started_at = UTCDateTimeField()
    ended_at = UTCDateTimeField()
    exception_path = models.CharField(max_length=255)
    message = models.TextField()
    traceback = models.TextField()

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.job_id}: {self.exception_path}"
