"""The dead: processes that left claims, and what is known of these, until they are recovered."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from setproctitle import setproctitle

from dj_queue.engines.clock import present, seconds_of_life
from dj_queue.events import log
from dj_queue.exceptions import ProcessExited
from dj_queue.models import ClaimedExecution, Process
from dj_queue.operations.recover import Recovery, recover
from dj_queue.operations.remains import Remains
from dj_queue.routers import QueueDatabase
from dj_queue.runtime import outage
from dj_queue.runtime.blame import NOT_STORABLE
from dj_queue.runtime.connections import close_connection
from dj_queue.runtime.ledger_files import LedgerFile, files_of
from dj_queue.runtime.pages import FIRST, WIDTH, Pages, close_all_but
from dj_queue.runtime.signals import StopSignals
from dj_queue.runtime.units import title_of

RECOVERED_STATUS = 3
"""How a recovery ends; not with 0, as a module that is imported for it might."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 30.0
FIND_SECONDS = 5.0
"""How often those are looked for who died with their supervisor."""
MAX_AGE_SECONDS = 86_400.0
"""How long a ledger is kept whose process is not known on the database: it may be another's."""


@dataclass(frozen=True)
class Dead:
    """A process that left claims, as far as is known.

    Its ledger stays open, and locked, until the recovery is over. Not `may_import` when a recovery
    died of it, as it does of a module that ends its importer. Not `is_known` when only the ledger
    says that the process was this database's.
    """

    db: QueueDatabase
    process_id: UUID
    remains: Remains
    error: ProcessExited
    may_import: bool = True
    is_known: bool = True
    ledger: Pages | None = field(default=None, compare=False)
    file: LedgerFile | None = field(default=None, compare=False)

    def close(self) -> None:
        """Let others have the ledger, if it is still there."""
        if self.ledger:
            self.ledger.close()


def find_dead(db: QueueDatabase, *, but: Collection[Path] = ()) -> Iterator[Dead]:
    """Find the ledgers of this host whose processes have died, and whoever looked after them.

    But for the files named. What a ledger says is final then. Removes those that say nothing.
    """
    for file in files_of(db.alias):
        ledger = _read(file) if file.path not in but and file.lock() else None
        file.close()
        if ledger is None:
            continue
        if ledger.process_id is None or ledger.has_ended:
            file.remove()
            ledger.close()
            continue
        ledger.declare_dead()
        yield _dead(db, ledger.process_id, ledger, file)


def dead_here(db: QueueDatabase, process_id: UUID) -> Dead | None:
    """Find what is known on this host of a process that was given up; None if it may be alive."""
    for file in files_of(db.alias):
        is_unlocked, ledger = file.lock(), _read(file)
        file.close()
        if ledger is None:
            continue
        if ledger.process_id == process_id and (is_unlocked or ledger.is_dead):
            return _dead(db, process_id, ledger, file)
        ledger.close()
    return None


def recover_dead(dead: list[Dead], told: StopSignals) -> int:
    """Recover what these have left, however long the database takes; for a child's `main`.

    Return RECOVERED_STATUS: with any other the process ended before it was done.
    """
    close_all_but([each.ledger for each in dead])
    setproctitle(title_of(f"recovery on {dead[0].db.alias}"))
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # TERM is only counted: it is soon over.
    parent, pause = os.getppid(), FIRST_PAUSE_SECONDS
    for each in dead:
        while not recovers(each):
            if os.getppid() != parent:
                return 1  # The next supervisor will find them, or some dispatcher.
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
    return RECOVERED_STATUS


def recovers(dead: Dead) -> bool:
    """Recover what a dead process has left, and remove its ledger; false where that is not done."""
    db, remains = dead.db, dead.remains
    try:
        is_known = dead.is_known or _is_known(dead)
        try:
            done = _recover(dead, remains)
        except NOT_STORABLE:
            done = _recover(dead, remains.without_texts())
    except Exception as error:
        outage.begin(db, error)
        close_connection(db)
        return False
    if is_known:
        where = {"database": db.alias, "process": dead.process_id}
        log("claims_recovered", **where, ready=done.ready_count, ended=len(done.ended))
    if done.left_count:
        return False  # The server has yet to notice that its client is dead.
    if dead.file and (is_known or _is_old(dead)):
        dead.file.remove()
    return True


def _recover(dead: Dead, remains: Remains) -> Recovery:
    return recover(
        dead.db,
        [dead.process_id],
        dead.error,
        now=present(dead.db),
        remains=remains,
        may_import=dead.may_import,
    )


def _is_known(dead: Dead) -> bool:
    rows = dead.db.objects(Process).filter(pk=dead.process_id)
    claims = dead.db.objects(ClaimedExecution).filter(process_id=dead.process_id)
    return rows.exists() or claims.exists()


def _is_old(dead: Dead) -> bool:
    return not dead.ledger or seconds_of_life() - dead.ledger.beat_at > MAX_AGE_SECONDS


def _read(file: LedgerFile) -> Pages | None:
    size = os.fstat(file.number).st_size
    if size < FIRST * WIDTH or size % WIDTH:
        return None
    return Pages(mmap.mmap(file.number, size))


def _dead(db: QueueDatabase, process_id: UUID, ledger: Pages, file: LedgerFile) -> Dead:
    pid, name = ledger.who
    where = f"(pid {pid} on {socket.gethostname()})"
    error = ProcessExited(f"the process {name} {where} died before the job ended")
    return Dead(db, process_id, ledger.remains, error, is_known=False, ledger=ledger, file=file)
