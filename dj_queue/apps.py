"""The Django app: `dj_queue` in INSTALLED_APPS."""

from __future__ import annotations

from django.apps import AppConfig


class DjQueueConfig(AppConfig):
    name = "dj_queue"
    verbose_name = "dj_queue"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from dj_queue.checks import register_checks

        register_checks()
