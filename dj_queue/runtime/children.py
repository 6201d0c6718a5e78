"""Children: forked processes, one for each unit, and what becomes of one that died or hangs."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import suppress

from django.db import connections
from setproctitle import setproctitle

from dj_queue import output
from dj_queue.events import log
from dj_queue.exceptions import ProcessExited
from dj_queue.runtime import signals
from dj_queue.runtime.connections import close_connections
from dj_queue.runtime.dead import Dead
from dj_queue.runtime.ledger import Ledger
from dj_queue.runtime.pages import close_all_but
from dj_queue.runtime.process import Supervision
from dj_queue.runtime.runner import Runner
from dj_queue.runtime.signals import StopSignals
from dj_queue.runtime.units import Unit
from dj_queue.runtime.worker import LATE

LEFTOVERS_STATUS = os.EX_TEMPFAIL
"""How a child ends that did what it was told, but not all of it in time."""
BROKEN_STATUS = os.EX_SOFTWARE
"""How a child ends one of whose threads has ended by itself."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 30.0
MIN_SILENCE_SECONDS = 5.0
"""A busy machine may keep a living process from its work for a moment."""
LONGEST_STEP_SECONDS = 1.0
ABORT_SECONDS = 1.0
"""How long a silent process may take to say where it hangs, before it is killed."""


class Child:
    """One unit's process; started again when it ends.

    At once when it had come to its work; one that keeps dying at its start, with growing pauses.
    """

    def __init__(self, unit: Unit, supervision: Supervision) -> None:
        self.unit = unit
        self.supervision = supervision
        self.pid: int | None = None
        self.start_at = 0.0
        self.is_stopped = False
        self._pause = 0.0
        self._beat_at = self._silent_seconds = 0.0
        self._ledger: Ledger

    def start(self) -> None:
        """Fork; where the system has no room for a process, another time."""
        unit, supervision = self.unit, self.supervision
        ledger = self._ledger = Ledger.kept(unit)
        self._beat_at = self._silent_seconds = 0.0
        self.is_stopped = False
        try:
            self.pid = fork(lambda told: _run(unit, supervision, ledger, told))
        except OSError as error:
            ledger.remove()
            ledger.close()
            self._delay(max(FIRST_PAUSE_SECONDS, self._pause * 2))
            log("fork_failed", database=unit.db.alias, name=unit.name, error=repr(error))

    def end(self, status: int) -> Dead | None:
        """Note that the process has ended; return what it left, None after a clean end.

        `status` is waitpid's.
        """
        code, ledger, pid = os.waitstatus_to_exitcode(status), self._ledger, self.pid
        self.pid = None
        self._delay(0.0 if ledger.was_well else max(FIRST_PAUSE_SECONDS, self._pause * 2))
        ledger.declare_dead()
        process_id, name = ledger.process_id, self.unit.name
        why = LATE
        if code != LEFTOVERS_STATUS and not ledger.has_ended:
            how = self._how(code)
            log("process_died", database=self.unit.db.alias, name=name, pid=pid, how=how)
            why = f"the process {name} (pid {pid} on {socket.gethostname()}) {how}"
        # A task may end the process as well, with the same status.
        if process_id is None or (code == 0 and ledger.has_ended):
            ledger.remove()
            ledger.close()
            return None
        error, remains = ProcessExited(why), ledger.remains
        return Dead(self.unit.db, process_id, remains, error, ledger=ledger, file=ledger.file)

    def watch(self, seconds: float) -> None:
        """End a process that has not worked for long, so many seconds after the last look.

        It cannot end by itself, and nobody else replaces it. Time in which this process did not
        run either does not count, nor does time in which the child was stopped.
        """
        if self.pid is None:
            return
        beat_at = self._ledger.beat_at
        if beat_at != self._beat_at or self.is_stopped:
            self._beat_at, self._silent_seconds = beat_at, 0.0
            return
        before = self._silent_seconds
        self._silent_seconds += min(seconds, LONGEST_STEP_SECONDS)
        if before <= self._patience_seconds < self._silent_seconds:
            where = {"database": self.unit.db.alias, "name": self.unit.name, "pid": self.pid}
            log("process_silent", **where, seconds=round(self._silent_seconds, 1))
            self.signal(signal.SIGABRT)  # Its faulthandler says where it hangs.
        elif self._silent_seconds > self._patience_seconds + ABORT_SECONDS:
            self.signal(signal.SIGKILL)

    @property
    def _patience_seconds(self) -> float:
        return max(MIN_SILENCE_SECONDS, self.unit.db.options.process_alive_threshold)

    def _how(self, code: int) -> str:
        if self._silent_seconds > self._patience_seconds:
            return f"did nothing for {self._silent_seconds:.0f} seconds and was killed"
        if code == BROKEN_STATUS:
            return "ended because one of its threads had died"
        return f"was killed by {_name(-code)}" if code < 0 else f"ended with status {code}"

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


def _run(unit: Unit, supervision: Supervision, ledger: Ledger, told: StopSignals) -> int:
    close_all_but([ledger])
    setproctitle(unit.title)
    if not faulthandler.is_enabled():
        with suppress(Exception):  # There may be no stderr.
            faulthandler.enable()
    runner = Runner([unit], supervision=supervision, ledger=ledger)
    runner.start()
    while not told.count and supervision.is_alive and runner.beat():
        time.sleep(signals.LOOK_SECONDS)
    left = runner.stop(at_once=lambda: told.is_urgent)
    if left:
        output.say(f"{unit.name}: stopped; {left}")
    if runner.is_broken:
        return BROKEN_STATUS
    return LEFTOVERS_STATUS if left else 0


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
