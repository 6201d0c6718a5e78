"""Queues that are not to be claimed from."""

from __future__ import annotations

from django.db import models

from dj_queue.models.base import QueueModel
from dj_queue.models.fields import NameField, UTCDateTimeField
from dj_queue.models.ids import new_id


class Pause(QueueModel):
    """A paused queue: for every backend of this queue database."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    queue_name = NameField(unique=True)
    paused_at = UTCDateTimeField()

    class Meta(QueueModel.Meta):
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.queue_name
