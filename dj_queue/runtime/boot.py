"""The boot guard: no worker starts on a queue database that is not ready for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from django.db import DatabaseError, InterfaceError

from dj_queue import timezone
from dj_queue.checks import missing_tables, repair_remedy, unapplied_migrations
from dj_queue.checks.deployment import describe_stranger
from dj_queue.checks.waiting import untaken_queues
from dj_queue.events import log
from dj_queue.exceptions import NotMigrated
from dj_queue.operations.installations import introduce
from dj_queue.routers import QueueDatabase
from dj_queue.runtime.connections import close_connection

LOOK_SECONDS = 0.5
ANSWER_SECONDS = 5.0
"""How long a database may take to answer at all before the others' workers start without it."""


def guard(
    databases: Iterable[QueueDatabase], *, wait_seconds: float, say: Callable[[str], None]
) -> None:
    """Wait for the migrations of queue databases, all at once, and note whose they are.

    Raises NotMigrated when one is not ready after `wait_seconds`. A database that does not answer
    is let through: the runtime retries it, and the others' workers need not wait. `say` gets a
    line for people when there is something to wait for or to worry about.
    """
    guards = [_Guard(db, wait_seconds, say) for db in databases]
    for each in guards:
        each.start()
    deadline = time.monotonic() + ANSWER_SECONDS
    for each in guards:
        if each.has_answered.wait(max(0.0, deadline - time.monotonic())):
            each.join()
        else:
            say(f"database {each.db.alias!r} does not answer, it will be retried")
    for each in guards:
        if each.problem:
            raise each.problem


class _Guard(threading.Thread):
    """Looks at one database; a daemon, because one that hangs must not keep the process."""

    def __init__(self, db: QueueDatabase, wait_seconds: float, say: Callable[[str], None]) -> None:
        super().__init__(name=f"guard {db}", daemon=True)
        self.db = db
        self.wait_seconds = wait_seconds
        self.say = say
        self.has_answered = threading.Event()
        self.problem: Exception | None = None

    def run(self) -> None:
        try:
            self.db.connection.ensure_connection()
            self.has_answered.set()
            self._await_migrations()
            introduce(self.db, now=timezone.now())
            self._warn_of_strangers()
            self._warn_of_untaken_jobs()
        except (DatabaseError, InterfaceError) as error:
            text = f"database {self.db.alias!r} does not answer, it will be retried: {error}"
            self.say(text.strip())
        except Exception as error:
            self.problem = error
        finally:
            self.has_answered.set()
            close_connection(self.db)

    def _warn_of_strangers(self) -> None:
        stranger = describe_stranger(self.db)
        if stranger:
            log("other_deployment", database=self.db.alias, difference=stranger)
            self.say(f"WARNING: {stranger}")

    def _warn_of_untaken_jobs(self) -> None:
        db = self.db
        for each in untaken_queues(db):
            # Ours are about to start.
            if not each.is_in_settings:
                where = {"backend": db.backend, "database": db.alias}
                log("jobs_untaken", **where, queue=each.queue_name, count=str(each.count))
                self.say(
                    f"WARNING: {each.count} jobs of backend {db.backend!r} on database "
                    f"{db.alias!r} wait in the queue {each.queue_name!r}, from which no worker "
                    "takes"
                )

    def _await_migrations(self) -> None:
        db, deadline, waits = self.db, time.monotonic() + self.wait_seconds, False
        place = f"database {db.alias!r} (backend {db.backend!r})"
        while behind := unapplied_migrations(db.alias):
            problem = (
                f"expected all migrations of dj_queue on {place}, it lacks {', '.join(behind)}"
            )
            if time.monotonic() >= deadline:
                raise NotMigrated(f"{problem}. Run `manage.py dj_queue_migrate`")
            if not waits:
                self.say(f"{problem}; waiting {self.wait_seconds:g} s for it")
            waits = True
            time.sleep(min(LOOK_SECONDS, self.wait_seconds))
        missing = missing_tables(db.alias)
        if missing:  # Nothing to wait for: no migration is left that would make them.
            raise NotMigrated(
                f"expected dj_queue's tables on {place}, where django_migrations has them "
                f"applied, it lacks {', '.join(missing)}. {repair_remedy(db.alias)}"
            )
