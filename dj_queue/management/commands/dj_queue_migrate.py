"""`manage.py dj_queue_migrate`: create or update the tables of every queue database."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from dj_queue.checks import NO_BACKEND, missing_tables
from dj_queue.exceptions import DjQueueError
from dj_queue.routers import queue_database
from dj_queue.routers.registry import backends_on, routes


class Command(BaseCommand):
    help = "Migrate dj_queue's tables on every queue database, each once, and verify them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--backend",
            action="append",
            metavar="NAME",
            help="only this backend's queue database; repeat it for several (default: all)",
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
            aliases = list(dict.fromkeys(queue_database(name).alias for name in names))
        except DjQueueError as error:
            raise CommandError(str(error)) from error
        problems = []
        for number, alias in enumerate(aliases, start=1):
            backends = ", ".join(backends_on(alias))
            self.stdout.write(f"[{number}/{len(aliases)}] {alias} (backends: {backends})")
            try:
                self._migrate(alias, options["verbosity"])
            except (DatabaseError, InterfaceError, CommandError) as error:
                problems.append(f"{alias}: {error}")
                self.stderr.write(self.style.ERROR(f"      {error}"))
        total = f"{len(aliases)} queue {'database' if len(aliases) == 1 else 'databases'}"
        if problems:
            raise CommandError(f"not ready: {len(problems)} of {total}")
        self.stdout.write(self.style.SUCCESS(f"ready: {total}"))

    def _migrate(self, alias: str, verbosity: int) -> None:
        call_command(
            "migrate",
            "dj_queue",
            database=alias,
            interactive=False,
            verbosity=max(0, verbosity - 1),
            stdout=self.stdout,
            stderr=self.stderr,
        )
        missing = missing_tables(alias)
        if missing:
            raise CommandError(
                f"expected dj_queue's tables on database {alias!r} after migrate, it lacks "
                f"{', '.join(missing)}: its django_migrations table says they were made, or a "
                "router ahead of dj_queue's keeps them away"
            )
        self.stdout.write("      tables verified")
