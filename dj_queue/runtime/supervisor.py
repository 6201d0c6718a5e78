"""The supervisor: forks a child for each unit, replaces those that die, and ends all in order."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from setproctitle import setproctitle

from dj_queue.events import log
from dj_queue.runtime import signals
from dj_queue.runtime.children import Child, fork
from dj_queue.runtime.dead import FIND_SECONDS, RECOVERED_STATUS, Dead, find_dead, recover_dead
from dj_queue.runtime.process import Supervision
from dj_queue.runtime.runner import LEAVE_SECONDS, RECORD_SECONDS
from dj_queue.runtime.signals import StopSignals
from dj_queue.runtime.units import Unit, title_of

STOP_SECONDS = RECORD_SECONDS + LEAVE_SECONDS + 4.0
"""How much longer than its drain a child may take to end, before it is killed."""
RETRY_SECONDS = 1.0


class Supervisor:
    """Has no connection, no thread and no database: what needs one is done by children.

    So nothing is inherited by a fork that must not be, and no outage reaches it.
    """

    def __init__(self, units: Sequence[Unit]) -> None:
        self.supervision = Supervision()
        self.children = [Child(unit, self.supervision) for unit in units]
        self.shutdown_timeout = max(unit.db.options.shutdown_timeout for unit in units)
        self._to_recover: dict[str, list[Dead]] = {}
        self._recoveries: dict[int, list[Dead]] = {}
        self._recover_at = self._find_at = 0.0
        self._watched_at = time.monotonic()
        self._found: set[Path] = set()
        self._is_clean = True

    def run(self, told: StopSignals) -> bool:
        """Run until told, then stop; tell whether all ended in order.

        Only in the main thread of a process that has no other.
        """
        setproctitle(title_of("supervisor"))
        gc.collect()
        gc.freeze()  # What is loaded by now stays shared with the children.
        while not told.count:
            for child in self.children:
                if child.pid is None and time.monotonic() >= child.start_at:
                    child.start()
            self._find_dead()
            self._look_after()
            time.sleep(signals.LOOK_SECONDS)
        self._is_clean = True
        self._stop(told)
        return self._is_clean and not any(self._to_recover.values())

    def _stop(self, told: StopSignals) -> None:
        deadline = time.monotonic() + self.shutdown_timeout + STOP_SECONDS
        self._signal(signal.SIGTERM)
        is_urgent = False
        while any(child.pid for child in self.children) and time.monotonic() < deadline:
            if told.is_urgent and not is_urgent:
                is_urgent = True
                self._signal(signal.SIGQUIT)
                deadline = min(deadline, time.monotonic() + STOP_SECONDS)
            self._look_after()
            time.sleep(signals.LOOK_SECONDS)
        self._signal(signal.SIGKILL)
        deadline = time.monotonic() + RECORD_SECONDS
        while self._is_busy and time.monotonic() < deadline:
            self._look_after()
            time.sleep(signals.LOOK_SECONDS)
        for pid, dead in self._recoveries.items():
            os.kill(pid, signal.SIGKILL)
            self._to_recover.setdefault(dead[0].db.alias, []).extend(dead)

    @property
    def _is_busy(self) -> bool:
        is_running = any(child.pid for child in self.children)
        return is_running or bool(self._recoveries) or any(self._to_recover.values())

    def _signal(self, signum: int) -> None:
        for child in self.children:
            child.signal(signum)

    def _look_after(self) -> None:
        """Bury who has died, and have recovered what they left."""
        with suppress(ChildProcessError):
            # Of any child: as a container's first process this one inherits those of others.
            while (ended := os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED))[0]:
                self._bury(*ended)
        now = time.monotonic()
        for child in self.children:
            child.watch(now - self._watched_at)
        self._watched_at = now
        if time.monotonic() < self._recover_at:
            return
        busy = {dead[0].db.alias for dead in self._recoveries.values()}
        for alias in self._to_recover.keys() - busy:
            dead = self._to_recover[alias]
            try:
                pid = fork(partial(recover_dead, dead))
            except OSError as error:
                self._recover_at = time.monotonic() + RETRY_SECONDS
                log("fork_failed", database=alias, name="recovery", error=repr(error))
                return
            self._recoveries[pid] = self._to_recover.pop(alias)

    def _bury(self, pid: int, status: int) -> None:
        has_ended = not os.WIFSTOPPED(status) and not os.WIFCONTINUED(status)
        for child in self.children:
            if child.pid == pid:
                child.is_stopped = os.WIFSTOPPED(status)
            if child.pid == pid and has_ended:
                self._is_clean = self._is_clean and status == 0
                left = child.end(status)
                if left:
                    self._to_recover.setdefault(left.db.alias, []).append(left)
                return
        dead = self._recoveries.pop(pid, []) if has_ended else []
        if dead and os.waitstatus_to_exitcode(status) != RECOVERED_STATUS:
            self._recover_at = time.monotonic() + RETRY_SECONDS
            again = [replace(each, may_import=False) for each in dead]
            self._to_recover.setdefault(dead[0].db.alias, []).extend(again)
            return
        for each in dead:
            each.close()

    def _find_dead(self) -> None:
        """Find what others have left on this host who were killed with their supervisor."""
        if time.monotonic() < self._find_at:
            return
        self._find_at = time.monotonic() + FIND_SECONDS
        for db in {child.unit.db.alias: child.unit.db for child in self.children}.values():
            for dead in find_dead(db, but=self._found):
                assert dead.file
                self._found.add(dead.file.path)
                self._to_recover.setdefault(db.alias, []).append(dead)
