"""`manage.py demo`: the whole demonstration; `bin/demo` runs it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connections
from django.utils import timezone

from dj_queue.compat import task_backends
from dj_queue.routers.registry import routes
from survey import counts, web
from survey.models import SourceFile
from survey.options import DESCRIPTION, add_options
from survey.progress import Progress
from survey.sources import backend_for, source_files
from survey.summary import summary
from survey.tasks import survey_file
from survey.workers import DirectoryRefused, WorkerEnded, locked, look_after, workers

CHUNK = 500
LOOK_SECONDS = 0.2
STALLED_SECONDS = 60.0


class Command(BaseCommand):
    help = DESCRIPTION

    def add_arguments(self, parser: CommandParser) -> None:
        add_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        try:
            with locked(settings.VAR) as lock:
                problems = self._demonstrate(lock, options)
        except KeyboardInterrupt:
            self.stderr.write("stopped; run it again to go on")
            sys.exit(128 + signal.SIGINT)
        except (DirectoryRefused, WorkerEnded, web.PortBusy) as error:
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            raise CommandError(
                f"a database file in {settings.VAR} is damaged or of another version of the demo "
                f"({error}); --fresh starts over"
            ) from error
        if problems:
            sys.exit(1)

    def _demonstrate(self, lock: TextIO, options: dict[str, Any]) -> list[str]:
        """Take every step of the demo; return what went wrong with the jobs."""
        root = options["source"].resolve()
        paths = source_files(root)
        if not paths:
            raise CommandError(f"--source: expected a directory with Python files, got {root}")
        if not options["once"]:
            web.look_at(options["port"])
        if options["fresh"]:
            self._start_over()
        self._migrate()
        self._enqueue(root, paths)
        began = timezone.now()
        log = settings.VAR / "workers.log"
        with workers(log, lock) as running:
            self._work_off(running, log)
            problems = self._conclude(began)
            if not options["once"]:
                # The workers stay: what is retried in the admin runs again.
                self._serve(options["port"])
        return problems

    def _start_over(self) -> None:
        for alias in connections:
            name = str(connections[alias].settings_dict["NAME"])
            for suffix in ("", "-wal", "-shm"):
                Path(name + suffix).unlink(missing_ok=True)
        self.stdout.write(f"starting over in {settings.VAR}")

    def _migrate(self) -> None:
        call_command("migrate", database="default", interactive=False, verbosity=0)
        call_command("dj_queue_migrate", stdout=self.stdout, stderr=self.stderr)

    def _enqueue(self, root: Path, paths: list[str]) -> None:
        """Enqueue a job for each source file, unless an earlier run was stopped."""
        if waiting := sum(map(counts.left, routes())):
            self.stdout.write(f"an earlier run was stopped; jobs it left to do: {waiting:,}")
            return
        if earlier := sum(map(counts.ended, routes())):
            self.stdout.write(f"jobs of earlier runs that stay: {earlier:,}; surveying again")
        SourceFile.objects.using("default").all().delete()
        calls: dict[str, list[Any]] = {backend: [] for backend in routes()}
        for path in paths:
            backend = backend_for(root, path)
            arguments = {"root": str(root), "path": path}
            calls[backend].append((survey_file.using(backend=backend), [], arguments))
        self.stdout.write(f"enqueueing {len(paths):,} files of {root}")
        for backend, theirs in calls.items():
            for first in range(0, len(theirs), CHUNK):
                task_backends[backend].enqueue_all(theirs[first : first + CHUNK])

    def _work_off(self, running: list[subprocess.Popen[bytes]], log: Path) -> None:
        """Wait until every job has ended, or none has for a long while."""
        before = {backend: counts.ended(backend) for backend in routes()}
        progress = Progress(self.stdout, {backend: counts.left(backend) for backend in routes()})
        done, changed = 0, time.monotonic()
        with closing(progress):
            while done < progress.total and time.monotonic() - changed < STALLED_SECONDS:
                time.sleep(LOOK_SECONDS)
                look_after(running, log)
                ended = {name: counts.ended(name) - before[name] for name in before}
                if sum(ended.values()) > done:
                    done, changed = sum(ended.values()), time.monotonic()
                progress.show(ended)

    def _conclude(self, began: datetime) -> list[str]:
        """Print the summary; return what went wrong, a line each."""
        tallies = {backend: counts.tally(backend, began) for backend in routes()}
        for line in summary(tallies, began):
            self.stdout.write(line)
        problems = []
        if left := sum(each.left for each in tallies.values()):
            problems.append(
                f"jobs that did not end: {left:,}; run it again to go on, or with --fresh if their "
                f"workers were killed (log: {settings.VAR / 'workers.log'})"
            )
        if lost := sum(each.lost for each in tallies.values()):
            problems.append(f"jobs in no state: {lost:,}")
        if unexpected := sum(counts.unexpected(backend, began) for backend in routes()):
            problems.append(f"jobs that failed for another reason than their file: {unexpected:,}")
        for problem in problems:
            self.stderr.write(self.style.ERROR(problem))
        return problems

    def _serve(self, port: int) -> None:
        password = web.new_login()

        def announce(address: str) -> None:
            self.stdout.write(f"\nThe admin:  {address}\nLogin:      {web.USERNAME}")
            self.stdout.write(f"Password:   {password}\nCtrl-C ends it.")
            self.stdout.flush()

        try:
            web.serve(port, announce)
        except KeyboardInterrupt:
            self.stdout.write("\nended; the database files stay, --fresh starts over")
