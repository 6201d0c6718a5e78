"""What a supervisor does with the dead: replaces them at once or later, and has all recovered.

Without real children: tests/processes has those.
"""

import errno
import os
import signal
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from django.db import connections

from dj_queue.exceptions import ProcessExited
from dj_queue.models.ids import new_id
from dj_queue.operations.remains import UNKNOWN
from dj_queue.routers import queue_database
from dj_queue.runtime import children, dead, supervisor
from dj_queue.runtime.children import LEFTOVERS_STATUS, Child, fork
from dj_queue.runtime.dead import RECOVERED_STATUS, Dead, recover_dead
from dj_queue.runtime.process import Supervision
from dj_queue.runtime.signals import StopSignals
from dj_queue.runtime.supervisor import Supervisor
from dj_queue.runtime.units import units_of

KILLED = signal.SIGKILL
"""What waitpid gives for a process that was killed; an exit status is in the second byte."""


class System:
    """Forks nothing: gives pids, keeps what each would run, and tells of ends that a test says."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.pids = count(100)
        self.mains = {}
        self.ends = []
        self.has_room = True

    def fork(self, main) -> int:
        if not self.has_room:
            raise OSError(errno.EAGAIN, "no more processes")
        pid = next(self.pids)
        self.mains[pid] = main
        return pid

    def waitpid(self, pid, options):
        return self.ends.pop(0) if self.ends else (0, 0)


@pytest.fixture
def system(monkeypatch):
    system = System()
    for module in (children, supervisor):
        monkeypatch.setattr(module, "fork", system.fork)
        monkeypatch.setattr(module.time, "monotonic", lambda: system.now)
    monkeypatch.setattr(supervisor.os, "waitpid", system.waitpid)
    return system


@pytest.fixture
def worker():
    [unit, _] = units_of(["default"], kinds=("worker", "dispatcher"))
    return unit


def started(worker, *, was_well: bool, claimed: bool = True) -> Child:
    """Start a child; let it come to its work, or not."""
    child = Child(worker, Supervision())
    start(child, was_well=was_well, claimed=claimed)
    return child


def start(child, *, was_well, claimed=True):
    child.start()
    if claimed:
        child._ledger.is_process(new_id())
    if was_well:
        child._ledger.is_well()


def test_a_child_that_was_well_is_replaced_at_once(system, worker, events):
    child = started(worker, was_well=True)

    dead = child.end(KILLED)

    assert (child.pid, child.start_at) == (None, system.now)
    assert dead.db == queue_database("default")
    assert "the process worker default (pid 100 on " in str(dead.error)
    assert str(dead.error).endswith("was killed by SIGKILL")
    [(event, payload)] = events()
    assert (event, payload["how"], payload["pid"]) == ("process_died", "was killed by SIGKILL", 100)


def test_a_child_that_keeps_dying_at_its_start_is_replaced_with_growing_pauses(system, worker):
    child, pauses = Child(worker, Supervision()), []
    for _ in range(12):
        start(child, was_well=False)
        child.end(1 << 8)
        pauses.append(child.start_at - system.now)

    assert pauses[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert max(pauses) == pauses[-1] == 30

    start(child, was_well=True)
    child.end(KILLED)
    assert child.start_at == system.now


def test_where_the_system_has_no_room_a_child_is_started_later(system, worker, events):
    child, system.has_room = Child(worker, Supervision()), False

    child.start()

    assert (child.pid, child.start_at > system.now) == (None, True)
    assert [event for event, _ in events()] == ["fork_failed"]


def test_a_child_that_ended_in_order_left_nothing(system, worker, events):
    child = started(worker, was_well=True)
    child._ledger.ends_well()

    assert child.end(0) is None
    assert events() == []


def test_a_child_that_a_task_ended_with_status_0_is_as_dead_as_with_any_other(
    system, worker, events
):
    dead = started(worker, was_well=True).end(0)

    assert str(dead.error).endswith("ended with status 0")
    assert [event for event, _ in events()] == ["process_died"]


def test_a_child_that_did_not_end_all_in_time_did_not_die(system, worker, events):
    dead = started(worker, was_well=True).end(LEFTOVERS_STATUS << 8)

    assert "the job did not end in time" in str(dead.error)
    assert events() == []


def test_a_child_that_never_had_an_id_left_nothing(system, worker):
    assert started(worker, was_well=False, claimed=False).end(KILLED) is None


def test_the_dead_of_each_database_are_recovered_by_one_child(system):
    boss = Supervisor(units_of(["default", "alerts", "bulk"], kinds=("worker",)))
    for child in boss.children:
        start(child, was_well=True)
    workers = [child.pid for child in boss.children]

    system.ends = [(pid, KILLED) for pid in workers]
    boss._look_after()

    recoveries = list(boss._recoveries.values())
    assert sorted([each.db.alias for each in dead] for dead in recoveries) == [
        ["bulk"],
        ["queue", "queue"],
    ]
    assert len(system.mains) == len(workers) + 2


@pytest.mark.parametrize("how", [KILLED, 0, 1 << 8], ids=["killed", "status 0", "status 1"])
def test_a_recovery_that_died_is_begun_again_after_a_pause_and_imports_no_task(system, how):
    boss = Supervisor(units_of(["default"], kinds=("worker",)))
    [child] = boss.children
    start(child, was_well=True)
    system.ends = [(child.pid, KILLED)]
    boss._look_after()
    [(recovery, dead)] = boss._recoveries.items()

    system.ends = [(recovery, how)]
    boss._look_after()
    assert boss._recoveries == {}
    system.now += supervisor.RETRY_SECONDS
    boss._look_after()

    assert list(boss._recoveries.values()) == [[replace(each, may_import=False) for each in dead]]
    [again] = boss._recoveries
    system.ends = [(again, RECOVERED_STATUS << 8)]
    boss._look_after()
    assert not boss._is_busy


def test_ends_of_strangers_are_no_matter(system):
    # As a container's first process it inherits the orphans of its tasks.
    boss = Supervisor(units_of(["default"], kinds=("worker",)))
    start(boss.children[0], was_well=True)

    system.ends = [(99_999, KILLED)]
    boss._look_after()

    assert boss.children[0].pid is not None
    assert boss._recoveries == {}


def test_a_child_that_does_not_end_is_killed_and_that_is_no_clean_stop(system, monkeypatch):
    boss, sent = Supervisor(units_of(["default"], kinds=("worker",))), []
    # What a supervisor does to its own process is not for the one that runs the tests.
    monkeypatch.setattr(supervisor, "setproctitle", lambda title: None)
    monkeypatch.setattr(supervisor.gc, "freeze", lambda: None)

    def deliver(pid, signum):
        sent.append(signum)
        if signum == signal.SIGKILL:
            system.ends.append((pid, KILLED))

    monkeypatch.setattr(children.os, "kill", deliver)
    monkeypatch.setattr(
        supervisor.time, "sleep", lambda seconds: setattr(system, "now", system.now + seconds)
    )
    start(boss.children[0], was_well=True)
    told = StopSignals(handled=False)
    told.count = 1

    assert not boss.run(told)

    assert sent[:2] == [signal.SIGTERM, signal.SIGKILL]


def test_titles_name_the_deployment(worker, monkeypatch):
    # On one host there may be several, whose backends have the same names.
    titles = []
    monkeypatch.setattr(dead, "setproctitle", titles.append)
    monkeypatch.setattr(supervisor, "setproctitle", titles.append)
    monkeypatch.setattr(supervisor.gc, "freeze", lambda: None)
    monkeypatch.setattr(dead.signal, "signal", lambda *_: None)
    monkeypatch.setattr(dead, "recovers", lambda dead: True)
    monkeypatch.setattr(dead, "close_all_but", lambda kept: None)
    told = StopSignals(handled=False)
    told.count = 1

    Supervisor([worker]).run(told)
    recover_dead([Dead(worker.db, new_id(), UNKNOWN, ProcessExited("it died"))], told)

    settings = os.environ["DJANGO_SETTINGS_MODULE"]
    database = Path(str(connections["default"].settings_dict["NAME"])).name
    assert database
    where = f"({settings}, {database})"
    assert titles == [f"dj_queue: supervisor {where}", f"dj_queue: recovery on queue {where}"]
    assert worker.title == f"dj_queue: worker default [*] on queue {where}"


def told_between_fork_and_work(told, monkeypatch):
    """Fork a child to which a signal comes before it has said how to handle it; give its status."""
    real = os.fork

    def fork_and_tell():
        pid = real()
        if pid == 0:
            os.kill(os.getpid(), told)
        return pid

    monkeypatch.setattr(children.os, "fork", fork_and_tell)
    pid = fork(lambda signals: 10 + signals.count)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize(
    ("told", "count"), [(signal.SIGTERM, 1), (signal.SIGQUIT, 2), (signal.SIGINT, 0)]
)
def test_a_signal_that_comes_with_the_fork_is_not_lost(monkeypatch, told, count):
    assert told_between_fork_and_work(told, monkeypatch) == 10 + count


def test_to_a_child_any_number_of_terms_is_one_and_quit_is_two():
    told = StopSignals(is_child=True, handled=False)
    counts = []
    for handle in (told._on_stop, told._on_stop, told._on_stop, told._on_quit, told._on_stop):
        handle(0, None)
        counts.append(told.count)

    assert counts == [1, 1, 1, 2, 2]


def watched(worker, system, monkeypatch):
    """Give a child that has beaten once, and the signals that it is sent."""
    child, sent = started(worker, was_well=True), []
    monkeypatch.setattr(children.os, "kill", lambda pid, signum: sent.append(signum))
    child._ledger.beat()
    child.watch(0.05)
    return child, sent


def test_a_child_that_does_nothing_for_too_long_is_ended(system, worker, monkeypatch, events):
    child, sent = watched(worker, system, monkeypatch)
    patience = worker.db.options.process_alive_threshold

    for _ in range(int(patience)):
        child.watch(1.0)
    assert sent == []
    child.watch(0.5)
    child.watch(0.5)
    assert sent == [signal.SIGABRT]
    child.watch(0.75)
    assert sent == [signal.SIGABRT, signal.SIGKILL]

    dead = child.end(KILLED)
    assert "did nothing for " in str(dead.error)
    assert [event for event, _ in events()] == ["process_silent", "process_died"]


def test_a_child_that_works_or_is_stopped_is_left_alone(system, worker, monkeypatch):
    child, sent = watched(worker, system, monkeypatch)
    patience = int(worker.db.options.process_alive_threshold)

    for _ in range(2 * patience):
        child._ledger.beat()
        child.watch(1.0)
    child.is_stopped = True
    for _ in range(2 * patience):
        child.watch(1.0)

    assert sent == []


def test_time_in_which_the_supervisor_did_not_run_either_is_no_silence(system, worker, monkeypatch):
    # The machine slept, or everything was stopped and continued.
    child, sent = watched(worker, system, monkeypatch)

    for _ in range(3):
        child.watch(86_400.0)
        child._ledger.beat()
        child.watch(0.05)

    assert sent == []


def test_that_a_child_was_stopped_or_continued_is_no_end(system):
    boss = Supervisor(units_of(["default"], kinds=("worker",)))
    [child] = boss.children
    start(child, was_well=True)

    system.ends = [(child.pid, 0x7F | signal.SIGSTOP << 8)]
    boss._look_after()
    assert (child.pid is not None, child.is_stopped) == (True, True)
    system.ends = [(child.pid, 0xFFFF)]
    boss._look_after()

    assert (child.pid is not None, child.is_stopped) == (True, False)
    assert boss._recoveries == {}
