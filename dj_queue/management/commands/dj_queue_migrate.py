"""`manage.py dj_queue_migrate`: create or update the tables of every queue database."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from dj_queue import timezone
from dj_queue.checks import (
    NO_BACKEND,
    check_kwargs,
    missing_tables,
    repair_remedy,
    unapplied_migrations,
)
from dj_queue.checks.deployment import describe_stranger, is_foreign
from dj_queue.engines.migration_lock import migration_lock
from dj_queue.exceptions import DjQueueError
from dj_queue.operations.installations import adopt
from dj_queue.operations.permissions import create_permissions, permissions_alias
from dj_queue.operations.repair import forget_migrations
from dj_queue.output import OutputCommand
from dj_queue.routers import Database, queue_database
from dj_queue.routers.registry import backends_on, routes
from dj_queue.routers.survey import AWAY


class Command(OutputCommand):
    help = (
        "Migrate dj_queue's tables on every queue database, each once, and verify them. Safe to "
        "run again, and from several hosts at once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--backend",
            action="append",
            metavar="NAME",
            help="only this backend's queue database; repeat it for several (default: all)",
        )
        parser.add_argument(
            "--check",
            action="store_true",
            help="change nothing; exit with status 1 unless every database is ready",
        )
        parser.add_argument(
            "--repair",
            action="store_true",
            help="where django_migrations claims tables that do not exist, forget that and "
            "migrate; refused where any of them exists",
        )
        parser.add_argument(
            "--adopt",
            action="store_true",
            help="take over queue databases that belong to another deployment, for instance "
            "after a restore from its backup",
        )

    def get_check_kwargs(self, options: dict[str, Any]) -> Any:
        return check_kwargs()

    def handle(self, *args: Any, **options: Any) -> None:
        names = options["backend"] or list(routes())
        if not names:
            raise CommandError(NO_BACKEND)
        try:
            # With a wrong option the backend may lead to another database than was meant.
            handles = {db.alias: db for db in map(queue_database, names) if db.options}
        except DjQueueError as error:
            raise CommandError(str(error)) from error
        total = f"{len(handles)} queue {'database' if len(handles) == 1 else 'databases'}"
        problem_count = 0
        for number, db in enumerate(handles.values(), start=1):
            backends = ", ".join(backends_on(db.alias))
            self.stdout.write(f"[{number}/{len(handles)}] {db.alias} (backends: {backends})")
            try:
                self._treat(db, options)
            except (DatabaseError, InterfaceError, CommandError, DjQueueError) as error:
                problem_count += 1
                self.stderr.write(self.style.ERROR(f"      {str(error).strip()}"))
        if problem_count < len(handles) and not options["check"]:
            self._create_permissions(options["verbosity"])
        if problem_count:
            raise CommandError(f"not ready: {problem_count} of {total}")
        self.stdout.write(self.style.SUCCESS(f"ready: {total}"))

    def _treat(self, db: Database, options: dict[str, Any]) -> None:
        if not options["check"]:
            with migration_lock(db, say=lambda line: self.stdout.write(f"      {line}")):
                if not options["adopt"]:
                    self._refuse_foreign(db)
                if options["repair"] and forget_migrations(db):
                    self.stdout.write("      repaired: forgot migrations that were never applied")
                self._migrate(db, options["verbosity"])
                self._verify_tables(db)
                adopt(db, now=timezone.now())
        self._verify_tables(db)
        self._refuse_foreign(db)
        stranger = describe_stranger(db)
        if stranger:
            raise CommandError(f"{stranger}. Run `manage.py dj_queue_migrate`")
        self.stdout.write("      tables verified")

    def _create_permissions(self, verbosity: int) -> None:
        # Django creates an app's permissions when it migrates the database that has auth's tables,
        # which is seldom a queue database.
        alias = permissions_alias()
        if alias is None:
            return
        try:
            create_permissions(alias, verbosity=max(0, verbosity - 1))
        except AWAY as error:
            # The queue is ready all the same.
            self.stderr.write(
                self.style.WARNING(
                    f"expected to create the dashboard's permissions on database {alias!r}, got "
                    f"{' '.join(str(error).split())}. Run `manage.py dj_queue_migrate` again, or "
                    f"`manage.py migrate --database {alias}`"
                )
            )

    def _refuse_foreign(self, db: Database) -> None:
        # Other backends of our own deployment are a new release: its migrate records them.
        if not missing_tables(db.alias) and is_foreign(db):
            raise CommandError(
                f"{describe_stranger(db)}. Correct DATABASES; or, if it is yours, run `manage.py "
                "dj_queue_migrate --adopt`"
            )

    def _migrate(self, db: Database, verbosity: int) -> None:
        call_command(
            "migrate",
            "dj_queue",
            database=db.alias,
            interactive=False,
            verbosity=max(0, verbosity - 1),
            stdout=self.stdout,
            stderr=self.stderr,
        )

    def _verify_tables(self, db: Database) -> None:
        behind = unapplied_migrations(db.alias)
        if behind:
            raise CommandError(
                f"expected all migrations of dj_queue on database {db.alias!r}, it lacks "
                f"{', '.join(behind)}: run `manage.py dj_queue_migrate`"
            )
        missing = missing_tables(db.alias)
        if missing:
            raise CommandError(
                f"expected dj_queue's tables on database {db.alias!r}, where django_migrations "
                f"has them applied, it lacks {', '.join(missing)}. {repair_remedy(db.alias)} If a "
                "router keeps them away, `manage.py dj_queue_routes` names it"
            )
