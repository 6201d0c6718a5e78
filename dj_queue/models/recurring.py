"""Recurring tasks of a queue database, and the record that each instant fired once."""

from __future__ import annotations

from django.db import models

from dj_queue.models.base import QueueModel
from dj_queue.models.fields import JSONTextField, NameField, UTCDateTimeField
from dj_queue.models.ids import new_id
from dj_queue.models.jobs import Job
from dj_queue.parsers import PATH_LENGTH, SCHEDULE_LENGTH, TIMEZONE_LENGTH


class RecurringTask(QueueModel):
    """What to enqueue when: shared by all backends of this queue database.

    `backend` is where its jobs go; each has its own keys. `is_static` tells a task of the settings
    from one that was scheduled at run time. `next_run_at` is the cursor, the first instant that
    has not fired: None when none is to come, or the task is not enabled.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    key = NameField()
    backend = NameField()
    task_path = models.CharField(max_length=PATH_LENGTH)
    schedule = models.CharField(max_length=SCHEDULE_LENGTH)
    timezone = models.CharField(max_length=TIMEZONE_LENGTH)
    misfire = models.CharField(max_length=16)
    args = JSONTextField()
    kwargs = JSONTextField()
    queue_name = NameField()
    priority = models.SmallIntegerField()
    is_static = models.BooleanField()
    is_enabled = models.BooleanField(default=True)
    next_run_at = UTCDateTimeField(null=True)
    last_run_at = UTCDateTimeField(null=True)

    class Meta(QueueModel.Meta):
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["backend", "key"], name="dj_queue_recurring_key")
        ]
        indexes = [models.Index(fields=["backend", "next_run_at"], name="dj_queue_recurring_due")]

    def __str__(self) -> str:
        return self.key


class RecurringRun(QueueModel):
    """One instant of a recurring task that fired: unique, however many schedulers there are."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    task = models.ForeignKey(RecurringTask, on_delete=models.CASCADE, db_constraint=False)
    run_at = UTCDateTimeField()
    job = models.ForeignKey(Job, on_delete=models.DO_NOTHING, db_constraint=False, null=True)

    class Meta(QueueModel.Meta):
        constraints = [
            models.UniqueConstraint(fields=["task", "run_at"], name="dj_queue_recurring_once")
        ]

    def __str__(self) -> str:
        return f"{self.task_id} at {self.run_at}"
