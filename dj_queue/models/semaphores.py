"""Slots of concurrency keys: how many are held, and by whom."""

from __future__ import annotations

from django.db import models

from dj_queue.models.base import QueueModel
from dj_queue.models.fields import NameField, UTCDateTimeField
from dj_queue.parsers import KEY_LENGTH


class Semaphore(QueueModel):
    """How many slots of a key are held: shared by all backends of this queue database.

    Only what is held; the limit comes with each job, so that changing it repairs nothing. A row
    with nothing held is deleted; after `expires_at` the holders are counted again.
    """

    # `key` is a reserved word of MySQL's and MariaDB's.
    key = NameField(primary_key=True, max_length=KEY_LENGTH, db_column="concurrency_key")
    held = models.PositiveIntegerField()
    expires_at = UTCDateTimeField()

    class Meta(QueueModel.Meta):
        default_permissions = ("view",)
        indexes = [models.Index(fields=["expires_at"], name="dj_queue_semaphore_expires")]

    def __str__(self) -> str:
        return self.key


class Slot(QueueModel):
    """A slot of a key, held by a job that is ready or claimed.

    Who deletes the row gives the slot back, so that nobody can twice; and whether the holder is
    still there can be asked without reading other jobs. Written under the lock of the semaphore.
    """

    job_id = models.UUIDField(primary_key=True)
    key = NameField(max_length=KEY_LENGTH, db_column="concurrency_key")

    class Meta(QueueModel.Meta):
        indexes = [models.Index(fields=["key"], name="dj_queue_slot_key")]

    def __str__(self) -> str:
        return f"{self.key} {self.job_id}"
