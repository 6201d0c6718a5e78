"""What came of a queue's jobs, minute by minute."""

from __future__ import annotations

from django.db import models

from dj_queue.models.base import QueueModel
from dj_queue.models.fields import NameField, UTCDateTimeField
from dj_queue.models.ids import new_id


class QueueMinute(QueueModel):
    """One process's share of one queue's minute: attempts that ended, and their seconds in all.

    Attempts that finished and those that failed, retried or not; waiting is until the first one.

    A row per process, so that finishers of several processes never wait for each other.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    backend = NameField()
    queue_name = NameField()
    minute = UTCDateTimeField()
    process_id = models.UUIDField()
    finished = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    waiting_seconds = models.FloatField(default=0)
    running_seconds = models.FloatField(default=0)

    class Meta(QueueModel.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["backend", "minute", "queue_name", "process_id"],
                name="dj_queue_minute_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.queue_name} at {self.minute}"
