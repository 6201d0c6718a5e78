"""The dashboard's place in the admin: no table, but an entry and a view permission."""

from __future__ import annotations

from dj_queue.models.jobs import Job


class Dashboard(Job):
    """A proxy that gives the operator dashboard its address, its link and its permission."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        verbose_name_plural = "dashboard"
