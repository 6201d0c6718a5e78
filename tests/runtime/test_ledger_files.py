"""Files of ledgers: whose they are, who may touch them, and what there is where none can be had."""

import os
import signal
import stat

import pytest

from dj_queue.conf import WorkerOptions
from dj_queue.engines.claims import claim_of
from dj_queue.models.ids import new_id
from dj_queue.routers import queue_database
from dj_queue.runtime import ledger_files
from dj_queue.runtime.dead import dead_here, find_dead
from dj_queue.runtime.ledger import Ledger
from dj_queue.runtime.ledger_files import files_of
from dj_queue.runtime.pages import close_all_but
from dj_queue.runtime.units import Unit
from tests.runtime.test_ledger import claims

DB = queue_database("default")


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger_files, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(ledger_files, "_complained", set())
    return tmp_path / f"dj_queue-{os.geteuid()}"


def kept(db=DB) -> Ledger:
    ledger = Ledger.kept(Unit("worker", db, "worker default", WorkerOptions(threads=1)))
    ledger.is_process(new_id())
    return ledger


def test_a_ledger_is_for_its_user_alone(directory):
    ledger = kept()

    [path] = directory.iterdir()
    assert ledger.file.path == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_of_a_process_that_died_with_its_supervisor_the_next_one_finds_what_it_left():
    ledger = kept()
    rows = claims(2)
    ledger.enter(rows)
    ledger.start(rows[0])
    ledger.close()

    [dead] = find_dead(DB)

    assert dead.process_id
    assert dead.remains.unstarted.claims == {claim_of(rows[1])}
    assert f"the process worker default (pid {os.getpid()} on " in str(dead.error)
    assert not dead.is_known


def test_of_a_living_process_nobody_finds_anything():
    # Nor while only the child lives: it may start what the ledger has.
    ledger = kept()
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.read(read, 1)
        os._exit(0)
    try:
        assert list(find_dead(DB)) == []
        process_id = ledger.process_id
        ledger.close()
        assert list(find_dead(DB)) == []
        assert dead_here(DB, process_id) is None
    finally:
        os.write(write, b"x")
        os.waitpid(pid, 0)
    assert [each.process_id for each in find_dead(DB)] == [process_id]


def test_a_process_that_lets_go_of_what_it_inherited_keeps_nothing_locked():
    ledger = kept()
    told, tell = os.pipe()
    pid = os.fork()
    if not pid:
        close_all_but([])
        os.write(tell, b"x")
        signal.pause()
    try:
        os.read(told, 1)
        ledger.close()
        assert len(list(find_dead(DB))) == 1
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_one_finds_a_dead_process_and_no_other_until_it_lets_go():
    kept().close()

    [dead] = find_dead(DB)
    assert list(find_dead(DB)) == []
    # Who is told that the process was given up may read what is final.
    assert dead_here(DB, dead.process_id).remains == dead.remains
    dead.close()
    [again] = find_dead(DB)

    assert list(find_dead(DB, but=[again.file.path])) == []


def test_other_deployments_and_databases_have_files_of_their_own(settings, directory):
    kept(queue_database("bulk")).close()
    kept().close()
    settings.SECRET_KEY = "another"
    kept().close()

    assert len(list(find_dead(DB))) == 1
    assert len(list(directory.iterdir())) == 3


def test_what_ended_in_order_is_not_there_any_more(directory):
    ledger = kept()

    ledger.ends_well()

    assert list(directory.iterdir()) == []
    assert ledger.has_ended


def test_what_is_left_of_an_earlier_boot_is_removed(monkeypatch, directory):
    monkeypatch.setattr(ledger_files, "_boot", lambda: "before")
    kept().close()
    monkeypatch.setattr(ledger_files, "_boot", lambda: "now")
    [path] = directory.iterdir()
    elsewhere = directory / path.name.replace(ledger_files._host(), "0" * ledger_files.DIGITS)
    elsewhere.write_bytes(b"of another host that uses this directory")

    assert list(find_dead(DB)) == []

    assert list(directory.iterdir()) == [elsewhere]


def test_an_empty_file_says_nothing():
    ledger = kept()
    ledger.file.path.write_bytes(b"")

    assert list(find_dead(DB)) == []
    assert dead_here(DB, new_id()) is None


@pytest.mark.parametrize("what", ["open to others", "a link", "a file", "full", "not writable"])
def test_without_a_safe_place_a_ledger_is_kept_in_memory_and_that_is_said_once(
    monkeypatch, directory, events, what
):
    if what == "open to others":
        directory.mkdir()
        directory.chmod(0o755)
    elif what == "a link":
        (directory.parent / "elsewhere").mkdir(mode=0o700)
        directory.symlink_to("elsewhere")
    elif what == "a file":
        directory.write_bytes(b"")
    elif what == "full":
        monkeypatch.setattr(ledger_files.os, "write", lambda number, value: len(value) // 2)
    else:
        monkeypatch.setattr(ledger_files, "SHARED_MEMORY", directory.parent / "missing")
        monkeypatch.setattr(ledger_files.tempfile, "gettempdir", lambda: "/proc/nowhere")

    ledgers = [kept(), kept()]

    assert [each.file for each in ledgers] == [None, None]
    assert [event for event, _ in events()] == ["ledger_not_kept"]
    assert list(files_of("default")) == []
    rows = claims(1)
    ledgers[0].enter(rows)
    assert ledgers[0].unstarted.claims == {claim_of(rows[0])}
