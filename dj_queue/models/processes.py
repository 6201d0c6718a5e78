"""Processes that serve a queue database, as they register themselves."""

from __future__ import annotations

from django.db import models

from dj_queue.models.base import QueueModel
from dj_queue.models.fields import JSONTextField, NameField, UTCDateTimeField


class Process(QueueModel):
    """A supervisor, worker, dispatcher or scheduler that runs, or did until it was lost.

    The id is new at every start, so that a re-used hostname or pid is never taken for the old one.
    `backend` is "" for a supervisor, which serves all backends; `supervisor_id` is its row's id, or
    None for a supervisor itself. `metadata` is a dict: version, and for a worker its queues,
    threads and concurrency.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    kind = models.CharField(max_length=16)
    name = models.CharField(max_length=150)
    backend = NameField(blank=True)
    pid = models.PositiveIntegerField()
    hostname = models.CharField(max_length=255)
    supervisor_id = models.UUIDField(null=True)
    metadata = JSONTextField()
    started_at = UTCDateTimeField()
    last_heartbeat_at = UTCDateTimeField()

    class Meta(QueueModel.Meta):
        default_permissions = ("view",)
        verbose_name_plural = "processes"

    def __str__(self) -> str:
        return self.name
