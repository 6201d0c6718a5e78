"""`manage.py dj_queue`: run the workers."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from dj_queue.checks import NO_BACKEND
from dj_queue.exceptions import DjQueueError
from dj_queue.routers import queue_database
from dj_queue.routers.registry import routes
from dj_queue.runtime.boot import guard
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
        parser.add_argument(
            "--wait-for-migrations",
            type=float,
            default=60,
            metavar="SECONDS",
            help="how long to wait for tables and migrations before giving up (default: 60)",
        )

    def get_check_kwargs(self, options: dict[str, Any]) -> Any:
        # Django 6.1's model checks ask every database (MySQL for its version): one that is down
        # would keep the others' work from starting.
        return {"databases": []}

    def handle(self, *args: Any, **options: Any) -> None:
        names = options["backend"] or list(routes())
        if not names:
            raise CommandError(NO_BACKEND)
        if not 0 <= options["wait_for_migrations"] <= 86_400:
            got = options["wait_for_migrations"]
            raise CommandError(f"--wait-for-migrations: expected 0 to 86400 seconds, got {got}")
        try:
            handles = {db.alias: db for db in map(queue_database, reversed(names))}
            supervisor = Supervisor(names)
            guard(handles.values(), wait_seconds=options["wait_for_migrations"], say=self._say)
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

    def _say(self, line: str) -> None:
        self.stderr.write(line)
        sys.stderr.flush()
