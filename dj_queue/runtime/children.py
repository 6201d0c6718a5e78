"""Children: forked processes, one for each unit, and what becomes of one that died."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from django.db import connections
from setproctitle import setproctitle

from dj_queue import output, timezone
from dj_queue.events import log
from dj_queue.exceptions import ProcessExited
from dj_queue.operations.recover import Unstarted, recover
from dj_queue.routers import QueueDatabase
from dj_queue.runtime import outage, signals
from dj_queue.runtime.connections import close_connection, close_connections
from dj_queue.runtime.ledger import Ledger
from dj_queue.runtime.process import Supervision
from dj_queue.runtime.runner import Runner
from dj_queue.runtime.signals import StopSignals
from dj_queue.runtime.units import Unit, title_of
from dj_queue.runtime.worker import LATE

LEFTOVERS_STATUS = os.EX_TEMPFAIL
"""How a child ends that did what it was told, but not all of it in time."""
RECOVERED_STATUS = 3
"""How a recovery ends; not with 0, as a module that is imported for it might."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True)
class Dead:
    """A child that left claims, as far as its supervisor knows.

    Not `may_import` when a recovery died of it, as it does of a module that ends its importer.
    """

    db: QueueDatabase
    process_id: UUID
    unstarted: Unstarted
    error: ProcessExited
    may_import: bool = True


class Child:
    """One unit's process; started again when it ends.

    At once when it had come to its work; one that keeps dying at its start, with growing pauses.
    """

    def __init__(self, unit: Unit, supervision: Supervision) -> None:
        self.unit = unit
        self.supervision = supervision
        self.pid: int | None = None
        self.start_at = 0.0
        self._pause = 0.0
        self._ledger: Ledger

    def start(self) -> None:
        """Fork; where the system has no room for a process, another time."""
        unit, supervision = self.unit, self.supervision
        ledger = self._ledger = Ledger(unit)
        try:
            self.pid = fork(lambda told: _run(unit, supervision, ledger, told))
        except OSError as error:
            self._delay(max(FIRST_PAUSE_SECONDS, self._pause * 2))
            log("fork_failed", database=unit.db.alias, name=unit.name, error=repr(error))

    def end(self, status: int) -> Dead | None:
        """Note that the process has ended; return what it left, None after a clean end.

        `status` is waitpid's.
        """
        code, ledger, pid = os.waitstatus_to_exitcode(status), self._ledger, self.pid
        self.pid = None
        self._delay(0.0 if ledger.was_well else max(FIRST_PAUSE_SECONDS, self._pause * 2))
        process_id, unstarted, has_ended = ledger.process_id, ledger.unstarted, ledger.has_ended
        ledger.close()
        # A task may end the process as well, with the same status.
        if code == 0 and has_ended:
            return None
        why = LATE
        if code != LEFTOVERS_STATUS:
            how = f"was killed by {_name(-code)}" if code < 0 else f"ended with status {code}"
            log("process_died", database=self.unit.db.alias, name=self.unit.name, pid=pid, how=how)
            why = f"the process {self.unit.name} (pid {pid} on {socket.gethostname()}) {how}"
        if process_id is None:
            return None
        return Dead(self.unit.db, process_id, unstarted, ProcessExited(why))

    def _delay(self, seconds: float) -> None:
        self._pause = min(seconds, LONGEST_PAUSE_SECONDS)
        self.start_at = time.monotonic() + self._pause

    def signal(self, signum: int) -> None:
        """Send a signal, if there is a process."""
        if self.pid is not None:
            os.kill(self.pid, signum)


def fork(main: Callable[[StopSignals], int]) -> int:
    """Run `main` in a child process, whose exit status it returns; return the pid.

    `main` is given the signals that come to the child, those of its first moment included.

    The parent has no connection open then, and no pool: a child that inherits one says goodbye on
    its parent's socket. Nor a thread, which may hold a lock that nobody would ever release.
    """
    _disconnect()
    output.flush()
    with signals.held_back():
        pid = os.fork()
        if pid:
            return pid
        told = StopSignals(is_child=True)
    status = 1
    try:
        status = main(told)
    except BaseException:  # Nothing may return into the parent's code.
        traceback.print_exc()
    finally:
        try:
            logging.shutdown()
            output.flush()
        finally:
            # Not sys.exit: what the parent registered to be done at its exit is not the child's.
            os._exit(status)


def recover_dead(dead: list[Dead], told: StopSignals) -> int:
    """Recover what these have left, however long the database takes; for a child's `main`.

    Return RECOVERED_STATUS: with any other the process ended before it was done.
    """
    setproctitle(title_of(f"recovery on {dead[0].db.alias}"))
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # TERM is only counted: it is soon over.
    parent, pause = os.getppid(), FIRST_PAUSE_SECONDS
    for each in dead:
        while not _recover(each):
            if os.getppid() != parent:
                return 1  # Some dispatcher will find them.
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
    return RECOVERED_STATUS


def _run(unit: Unit, supervision: Supervision, ledger: Ledger, told: StopSignals) -> int:
    setproctitle(unit.title)
    runner = Runner([unit], supervision=supervision, ledger=ledger)
    runner.start()
    while not told.count and supervision.is_alive:
        time.sleep(signals.LOOK_SECONDS)
    left = runner.stop(at_once=lambda: told.is_urgent)
    if left:
        output.say(f"{unit.name}: stopped; {left}")
        return LEFTOVERS_STATUS
    ledger.ends_well()
    return 0


def _recover(dead: Dead) -> bool:
    try:
        done = recover(
            dead.db,
            [dead.process_id],
            dead.error,
            now=timezone.now(),
            unstarted=dead.unstarted,
            may_import=dead.may_import,
        )
    except Exception as error:
        outage.begin(dead.db, error)
        close_connection(dead.db)
        return False
    where = {"database": dead.db.alias, "process": dead.process_id}
    log("claims_recovered", **where, ready=done.ready_count, ended=len(done.ended))
    return not done.left_count  # The server has yet to notice that its client is dead.


def _disconnect() -> None:
    close_connections()
    for alias in connections:
        connection = connections[alias]
        if connection.settings_dict["OPTIONS"].get("pool") and hasattr(connection, "close_pool"):
            connection.close_pool()


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
