"""The dashboard's place in the admin: no table, but an entry and the permissions of operators."""

from __future__ import annotations

from dj_queue.models.jobs import Job


class Dashboard(Job):
    """A proxy that gives the operator dashboard its address, its link and its permissions.

    One to look, and one for each thing that can be done there.
    """

    class Meta:
        proxy = True
        default_permissions = ("view",)
        permissions = [
            ("pause_queue", "Can pause queues"),
            ("resume_queue", "Can resume queues"),
            ("clear_queue", "Can clear queues"),
            ("discard_job", "Can discard jobs"),
            ("retry_job", "Can retry failed jobs"),
            ("run_job_now", "Can run scheduled jobs now"),
            ("enqueue_job_again", "Can enqueue finished jobs again"),
        ]
        verbose_name_plural = "dashboard"
