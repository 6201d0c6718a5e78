"""What the Django contestants have in common: settings, migrations, enqueueing."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import django
from protocol import DATABASES, WARM_UP, paced, start, timed, versions

SLICE = 1_000
"""Jobs in one call of enqueue_all."""


class DjangoProject:
    """A project with one task backend for each database, of the same name."""

    package: str
    app: str
    routers: tuple[str, ...] = ()

    def __init__(self) -> None:
        os.environ["DJANGO_SETTINGS_MODULE"] = "django_settings"
        os.environ["BENCHMARK_SETTINGS"] = json.dumps(self.settings(1))
        django.setup()

    def settings(self, processes: int) -> dict[str, Any]:
        """Give the settings for so many worker processes under one command."""
        apps = [self.app] if django.VERSION >= (6, 0) else [self.app, "django_tasks"]
        return {
            "SECRET_KEY": "only for benchmarks",
            "USE_TZ": True,
            "INSTALLED_APPS": apps,
            "DATABASES": DATABASES,
            "DATABASE_ROUTERS": list(self.routers),
            "TASKS": {alias: self.backend(alias, processes) for alias in DATABASES},
            # No contestant writes a line per job.
            "LOGGING": {
                "version": 1,
                "disable_existing_loggers": False,
                "loggers": {name: {"level": "WARNING"} for name in ("django.tasks", self.app)},
            },
        }

    def backend(self, alias: str, processes: int) -> dict[str, Any]:
        """Give one entry of TASKS."""
        raise NotImplementedError

    def versions(self) -> dict[str, str]:
        """Give the versions that matter."""
        return versions(self.package, "Django")

    def setup(self) -> None:
        """Create the tables on every database."""
        from django.core.management import call_command

        for alias in DATABASES:
            call_command("migrate", database=alias, verbosity=0)

    def enqueue(self, count: int, seconds: float) -> list[float]:
        """Enqueue no-ops one by one; see protocol.timed."""
        from tasks import noop

        timed(noop.enqueue, WARM_UP, seconds)
        return timed(noop.enqueue, count, seconds)

    def enqueue_all(
        self, count: int, seconds: float, alias: str = "default", size: int = SLICE
    ) -> list[float]:
        """Enqueue no-ops in slices; see protocol.timed."""
        from tasks import noop

        task = noop.using(backend=alias)
        backend = task.get_backend()

        def enqueue_slice(first: int) -> None:
            end = min(first + size, count)
            backend.enqueue_all([(task, [number], {}) for number in range(first, end)])

        done, elapsed = timed(enqueue_slice, count, seconds, size)
        return [min(done, count), elapsed]

    def load(self, count: int, alias: str = "default") -> None:
        """Enqueue no-ops for a drain, in the fastest way there is."""
        self.enqueue_all(count, math.inf, alias)

    def enqueue_stamps(self, count: int, per_second: float) -> None:
        """Enqueue tasks that record their latency, evenly in time."""
        from tasks import stamp

        paced(stamp.enqueue, count, per_second)

    def workers(self, processes: int, *aliases: str) -> list[dict[str, Any]]:
        """Describe the processes to start; `processes` for each of these backends."""
        raise NotImplementedError

    def command(self, *arguments: str, processes: int = 1) -> dict[str, Any]:
        """Describe one management command."""
        settings = json.dumps(self.settings(processes))
        return start(
            "-m",
            "django",
            *arguments,
            DJANGO_SETTINGS_MODULE="django_settings",
            BENCHMARK_SETTINGS=settings,
        )
