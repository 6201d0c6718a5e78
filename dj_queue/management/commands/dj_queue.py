"""`manage.py dj_queue`: run the workers."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError, connections

from dj_queue.checks import NO_BACKEND, missing_tables
from dj_queue.exceptions import DjQueueError
from dj_queue.routers import queue_database
from dj_queue.routers.registry import routes
from dj_queue.runtime.supervisor import Supervisor


class Command(BaseCommand):
    help = (
        "Run the jobs of every dj_queue backend of the project, until TERM or INT: then no more "
        "jobs are claimed and the running ones may end within shutdown_timeout. A second signal, "
        "or QUIT, stops at once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--backend",
            action="append",
            metavar="NAME",
            help="run this backend only; repeat it for several (default: all)",
        )

    def get_check_kwargs(self, options: dict[str, Any]) -> Any:
        # Django 6.1's model checks ask every database (MySQL for its version): one that is down
        # would keep the others' work from starting.
        return {"databases": []}

    def handle(self, *args: Any, **options: Any) -> None:
        names = options["backend"] or list(routes())
        if not names:
            raise CommandError(NO_BACKEND)
        try:
            for alias in dict.fromkeys(queue_database(name).alias for name in names):
                self._look_at(alias)
            supervisor = Supervisor(names)
        except DjQueueError as error:
            raise CommandError(str(error)) from error
        for worker in supervisor.workers:
            queues, count = ", ".join(worker.options.queues), worker.options.threads
            threads = f"{count} {'thread' if count == 1 else 'threads'}"
            self.stdout.write(f"{worker.db}: {threads} on {queues}")
        self.stdout.flush()
        leftovers = supervisor.run()
        if leftovers:
            self.stderr.write(f"stopped; {leftovers}")
            sys.stderr.flush()
            os._exit(1)  # Threads still run, and Python would wait for them.
        self.stdout.write("stopped; all running jobs ended")

    def _look_at(self, alias: str) -> None:
        try:
            missing = missing_tables(alias)
        except (OperationalError, InterfaceError) as error:
            self.stderr.write(f"database {alias!r} does not answer, it will be retried: {error}")
            return
        finally:
            connections[alias].close()
        if missing:
            raise CommandError(
                f"expected dj_queue's tables on database {alias!r}, it lacks {', '.join(missing)}. "
                "Create them with `manage.py dj_queue_migrate`"
            )
