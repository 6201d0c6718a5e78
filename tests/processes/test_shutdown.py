"""How `manage.py dj_queue` ends, and how else it is run."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from dj_queue.models import FailedExecution, Process
from dj_queue.routers import queue_database
from tests.jobs import EVERY, counts
from tests.processes.records import check_stopped, process_of
from tests.shop.recorded import hold, leave_an_orphan, note
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

ALL = ("dj_queue", "--backend", "default")


@pytest.fixture
def db():
    return queue_database("default")


def held(records, gate: str = "end"):
    """Enqueue a job that ends when the gate is opened, and return it when it has begun."""
    result = hold.enqueue(gate)
    until(lambda: records.of(result.id))
    # So that one that is missing later has been told to stop.
    until(lambda: process_of(queue_database("default"), "dispatcher"))
    return result


def heartbeat(db):
    return process_of(db, "worker").last_heartbeat_at


def test_a_drain_lets_long_jobs_end_starts_none_and_beats_to_the_end(start, records, db):
    command = start(*ALL, workers=[{"threads": 2}])
    held(records), held(records)
    waiting = [note.enqueue() for _ in range(5)]

    command.process.send_signal(signal.SIGTERM)
    # The dispatcher has nothing to drain: everybody has been told.
    until(lambda: process_of(db, "dispatcher") is None)
    for _ in range(3):
        before = heartbeat(db)
        until(lambda seen=before: heartbeat(db) > seen)
    assert counts(db) == {"claimed": 2, "ready": 5}
    records.open("end")
    status, output = command.wait()

    assert (status, output.splitlines()[-1]) == (0, "stopped; all running jobs ended")
    assert counts(db) == {"finished": 2, "ready": 5}
    assert not any(records.of(each.id) for each in waiting)
    check_stopped(db)
    assert command.is_over


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_what_goes_to_the_whole_group_is_one_signal(start, records, db, told):
    # Ctrl-C in a terminal, TERM from systemd. Children that counted it, and once more what their
    # supervisor sends, would stop at once.
    command = start(*ALL)
    held(records)

    command.signal_all(told)
    until(lambda: process_of(db, "dispatcher") is None)
    assert counts(db) == {"claimed": 1}
    records.open("end")

    assert command.wait()[0] == 0
    assert counts(db) == {"finished": 1}
    check_stopped(db)


def test_ctrl_c_twice_stops_at_once(start, records, db):
    command = start(*ALL)
    held(records)

    command.signal_all(signal.SIGINT)
    until(lambda: process_of(db, "dispatcher") is None)
    command.signal_all(signal.SIGINT)

    assert command.wait()[0] == 1
    assert db.objects(FailedExecution).get().exception_path == "dj_queue.exceptions.ProcessExited"
    check_stopped(db)


def test_quit_stops_at_once_and_gives_back_what_had_not_started(start, records, db):
    # One thread at work, and others claimed ahead of it by then.
    command = start(*ALL, workers=[{"threads": 1}])
    note.get_backend().enqueue_all([(note, [], {})] * 300)
    running = hold.enqueue("end")
    note.get_backend().enqueue_all([(note, [], {})] * 100)
    until(lambda: records.of(running.id))

    status, _ = command.end(signal.SIGQUIT)

    assert status == 1
    failed = db.objects(FailedExecution).get()
    assert str(failed.job_id) == running.id
    assert counts(db) == {"finished": 300, "failed": 1, "ready": 100}
    assert len(records.executions) == 301
    check_stopped(db)


@pytest.mark.parametrize("mode", ["fork", "thread"])
def test_a_stop_leaves_no_row_when_idle_connections_were_cut(start, proxy, db, mode):
    command = start(
        *ALL,
        "--mode",
        mode,
        queue={"HOST": "127.0.0.1", "PORT": proxy.port},
        process_heartbeat_interval=600,
        process_alive_threshold=3600,
    )
    until(lambda: db.objects(Process).count() == 4)

    proxy.shut()
    proxy.open()

    status, output = command.end()
    assert status == 0, output
    check_stopped(db)


def test_only_some_kinds_are_run(start, db):
    command = start(*ALL, "--only", "dispatchers")
    until(lambda: process_of(db, "dispatcher"))
    note.enqueue()

    kinds = set(db.objects(Process).values_list("kind", flat=True))

    assert command.end()[0] == 0
    assert kinds == {"supervisor", "dispatcher"}
    assert counts(db) == {"ready": 1}
    check_stopped(db)


def test_a_pidfile_keeps_a_second_one_out_and_is_taken_over_from_a_dead_one(start, db, tmp_path):
    path = tmp_path / "dj_queue.pid"
    first = start(*ALL, "--pidfile", str(path))
    until(lambda: process_of(db, "worker"))
    assert path.read_text() == f"{first.pid}\n"

    status, output = start(*ALL, "--pidfile", str(path)).wait()
    assert status == 1
    assert f"expected no process to keep {path}, got one that runs" in output
    assert path.read_text() == f"{first.pid}\n"

    first.signal_all(signal.SIGKILL)
    until(lambda: first.is_over)
    third = start(*ALL, "--pidfile", str(path))
    until(lambda: path.read_text() == f"{third.pid}\n")
    note.enqueue()
    until(lambda: counts(db) == {"finished": 1})

    assert third.end()[0] == 0
    assert not path.exists()


def test_in_thread_mode_everything_is_one_process(start, records, db):
    command = start(*ALL, "--mode", "thread")
    held(records)
    rows = db.objects(Process)
    assert set(rows.values_list("kind", "pid")) == {
        (kind, command.pid) for kind in ("supervisor", "worker", "dispatcher", "scheduler")
    }

    command.process.send_signal(signal.SIGTERM)
    records.open("end")

    assert command.wait()[0] == 0
    assert counts(db) == {"finished": 1}
    check_stopped(db)


def test_reload_serves_with_new_code_and_leaves_nothing_claimed(start, records, db, tmp_path):
    module = tmp_path / "reloaded.py"
    module.write_text("from tests.processes.impatient import *\n")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    command = start(*ALL, "--reload", settings="reloaded", environment={"PYTHONPATH": path})
    running = held(records, "never")
    before = process_of(db, "worker")

    # Until it is noticed: what changes before the reloader's first look is nothing new to it.
    until(lambda: module.touch() or "job_abandoned" in command.output)
    until(lambda: (row := process_of(db, "worker")) and row.pid != before.pid)
    after = note.enqueue()
    until(lambda: counts(db) == {"finished": 1, "failed": 1})

    assert str(db.objects(FailedExecution).get().job_id) == running.id
    assert records.of(after.id)[0].pid != before.pid
    assert not db.objects(Process).filter(pk=before.pk).exists()
    command.signal_all(signal.SIGTERM)
    until(lambda: command.is_over)


@pytest.fixture
def needs_pid_namespaces():
    tool = shutil.which("unshare")
    if tool is None or os.spawnlp(os.P_WAIT, tool, tool, "--pid", "--fork", "true"):
        pytest.skip("needs PID namespaces: this system has none, or they are not for us")


def test_as_the_first_process_of_a_container_it_obeys_and_buries_orphans(
    start, records, db, needs_pid_namespaces
):
    command = start(*ALL, under=("unshare", "--pid", "--fork", "--kill-child"))
    until(lambda: process_of(db, "worker"))
    [first] = children_of(command.pid)
    assert db.objects(Process).get(kind="supervisor").pid == 1

    leave_an_orphan.enqueue()
    until(lambda: counts(db) == {"finished": 1})
    until(lambda: len(children_of(first)) == 3)  # Nobody else is left there.
    held(records)
    os.kill(first, signal.SIGTERM)
    until(lambda: process_of(db, "dispatcher") is None)
    records.open("end")

    status, output = command.wait()
    assert status == 0, output
    assert counts(db) == {"finished": 2}
    check_stopped(db)


def children_of(pid: int) -> list[int]:
    """Give the children of a process, those among them that nobody has buried as well."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
