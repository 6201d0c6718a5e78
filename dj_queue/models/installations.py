"""Whose queue database this is."""

from __future__ import annotations

from django.db import models

from dj_queue.models.base import QueueModel
from dj_queue.models.fields import JSONTextField, UTCDateTimeField
from dj_queue.models.ids import new_id


class Installation(QueueModel):
    """The one row that names the deployment a queue database belongs to.

    Written by `dj_queue_migrate`, or by the first worker; `deployment` is a fingerprint of the
    SECRET_KEY and the application's database, `backends` the names TASKS maps here.
    """

    THE_ONE = 1

    slot = models.PositiveSmallIntegerField(primary_key=True, default=THE_ONE, editable=False)
    installation_id = models.UUIDField(default=new_id, editable=False)
    deployment = models.CharField(max_length=64)
    backends = JSONTextField()
    recorded_at = UTCDateTimeField()

    def __str__(self) -> str:
        return f"installation {self.installation_id}"
