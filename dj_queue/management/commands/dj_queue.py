"""`manage.py dj_queue`: run the workers."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import autoreload

from dj_queue.checks import NO_BACKEND, check_kwargs
from dj_queue.exceptions import DjQueueError
from dj_queue.output import OutputCommand
from dj_queue.routers import QueueDatabase
from dj_queue.routers.registry import routes
from dj_queue.runtime import signals
from dj_queue.runtime.boot import guard
from dj_queue.runtime.children import fork
from dj_queue.runtime.pidfile import pidfile
from dj_queue.runtime.runner import RECORD_SECONDS, Runner
from dj_queue.runtime.signals import StopSignals
from dj_queue.runtime.supervisor import Supervisor
from dj_queue.runtime.units import KINDS, Unit, units_of

ONLY = {f"{kind}s": kind for kind in KINDS}


class Command(OutputCommand):
    help = (
        "Run the jobs of every dj_queue backend of the project, until TERM or INT: then no more "
        "jobs are claimed and the running ones may end within shutdown_timeout. A second signal, "
        "or QUIT, stops at once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add(
            "--backend",
            action="append",
            metavar="NAME",
            help="run this backend only; repeat it for several (default: all)",
        )
        add(
            "--mode",
            choices=("fork", "thread"),
            default="fork",
            help="a process for each worker, dispatcher and scheduler, or threads of one process "
            "(default: fork)",
        )
        add(
            "--only",
            action="append",
            choices=list(ONLY),
            help="run these only; repeat it for several (default: all)",
        )
        add("--pidfile", type=Path, metavar="PATH", help="keep the supervisor's pid in this file")
        add(
            "--reload",
            action="store_true",
            help="for development: start again when code changes; implies --mode thread",
        )
        add(
            "--wait-for-migrations",
            type=float,
            default=60,
            metavar="SECONDS",
            help="how long to wait for tables and migrations before giving up (default: 60)",
        )

    def get_check_kwargs(self, options: dict[str, Any]) -> Any:
        return check_kwargs()

    def handle(self, *args: Any, **options: Any) -> None:
        names = options["backend"] or list(routes())
        if not names:
            raise CommandError(NO_BACKEND)
        if not 0 <= options["wait_for_migrations"] <= 86_400:
            got = options["wait_for_migrations"]
            raise CommandError(f"--wait-for-migrations: expected 0 to 86400 seconds, got {got}")
        is_forking = options["mode"] == "fork" and not options["reload"]
        kinds = [ONLY[name] for name in options["only"] or ONLY]
        try:
            units = units_of(names, kinds=kinds, multiply=is_forking)
        except DjQueueError as error:
            raise CommandError(str(error)) from error
        if not units:
            raise CommandError(f"expected units to run, got none with --only {options['only']}")
        self.wait_seconds = options["wait_for_migrations"]
        # The autoreloader runs the command again in a process of its own.
        path = None if autoreload.DJANGO_AUTORELOAD_ENV in os.environ else options["pidfile"]
        with _pidfile(path):
            if options["reload"]:
                autoreload.run_with_reloader(self._run_reloaded, units)
            elif is_forking:
                self._supervise(units)
            elif not self._run(units, StopSignals()):
                os._exit(1)  # Threads still run, and Python would wait for them.

    def _supervise(self, units: list[Unit]) -> None:
        told = StopSignals()
        # In a child: the supervisor itself must not have connected to anything when it forks.
        pid = fork(lambda _: self._guard_in_child(units))
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
            if told.count:
                os.kill(pid, signal.SIGKILL)  # It only looks.
            time.sleep(signals.LOOK_SECONDS)
        if told.count:
            return
        if ended[1]:
            sys.exit(1)
        self._announce(units)
        if not Supervisor(units).run(told):
            self._say("stopped; not everything ended in order, see above")
            sys.exit(1)
        self.stdout.write("stopped; all running jobs ended")

    def _guard_in_child(self, units: list[Unit]) -> int:
        try:
            self._guard(units)
        except CommandError as error:
            self._say(f"{self.style.ERROR('CommandError')}: {error}")
            return 1
        return 0

    def _guard(self, units: list[Unit]) -> None:
        try:
            guard(_databases(units), wait_seconds=self.wait_seconds, say=self._say)
        except DjQueueError as error:
            raise CommandError(str(error)) from error

    def _run_reloaded(self, units: list[Unit]) -> None:
        """Run in a thread of the autoreloader, which ends the process when code has changed."""
        told, has_stopped = StopSignals(handled=False), threading.Event()

        def stop() -> None:
            told.count = 2
            has_stopped.wait(2 * RECORD_SECONDS)

        atexit.register(stop)
        try:
            self._run(units, told)
        finally:
            has_stopped.set()

    def _run(self, units: list[Unit], told: StopSignals) -> bool:
        """Run in threads of this process until told; tell whether all ended in order."""
        self._guard(units)
        runner = Runner(units)
        runner.start()
        self._announce(units)
        while not told.count and runner.beat():
            time.sleep(signals.LOOK_SECONDS)
        left = runner.stop(at_once=lambda: told.is_urgent)
        if left or runner.is_broken:
            self._say(f"stopped; {left or 'one of the threads had died'}")
            return False
        self.stdout.write("stopped; all running jobs ended")
        return True

    def _announce(self, units: list[Unit]) -> None:
        for unit in units:
            if unit.worker is not None:
                queues, count = ", ".join(unit.worker.queues), unit.worker.threads
                crews = f"{count} {'thread' if count == 1 else 'threads'}"
                if unit.worker.concurrency:
                    crews += f", {unit.worker.concurrency} coroutines at once"
                self.stdout.write(f"{unit.db}: {crews} on {queues}")
        self.stdout.flush()

    def _say(self, line: str) -> None:
        self.stderr.write(line)
        self.stderr.flush()


@contextmanager
def _pidfile(path: Path | None) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(pidfile(path) if path else nullcontext())
        except BlockingIOError as error:
            what = f"expected no process to keep {path}, got one that runs"
            raise CommandError(f"--pidfile: {what}") from error
        except OSError as error:
            raise CommandError(f"--pidfile: expected a file to write, got {error}") from error
        yield


def _databases(units: list[Unit]) -> list[QueueDatabase]:
    return list({unit.db.alias: unit.db for unit in reversed(units)}.values())
