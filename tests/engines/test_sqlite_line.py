"""SQLite's writers come one after the other, and nobody waits for one that never ends."""

import errno
import fcntl
import os

import pytest

from dj_queue.engines import engine_for, line
from dj_queue.operations.claim import claim
from dj_queue.operations.enqueue import enqueue
from dj_queue.routers import queue_database
from tests.jobs import EVERY, ME, NOW, build

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)


@pytest.fixture
def db(vendor_by_alias):
    if vendor_by_alias["queue"] != "sqlite":
        pytest.skip("needs a line of writers: this database locks rows")
    return queue_database("default")


@pytest.fixture
def held(db):
    """Stand at the head of the line, as a worker that is stopped in the middle of a claim."""
    with open(f"{db.connection.settings_dict['NAME']}.{line.LINE_NAME}", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def test_a_claim_waits_for_its_turn_but_not_for_ever(db, held, monkeypatch):
    looks = []
    monkeypatch.setattr(line.time, "sleep", looks.append)
    clock = iter(range(10))
    monkeypatch.setattr(line.time, "monotonic", lambda: next(clock) * line.LINE_SECONDS / 4)
    enqueue(db, [build(db)], now=NOW)

    claimed = claim(db, ["*"], limit=1, process_id=ME, now=NOW)

    assert looks == [line.LOOK_SECONDS] * 3
    assert len(claimed) == 1


def test_who_is_in_a_transaction_does_not_stand_in_line(db, held, monkeypatch):
    # It may hold SQLite's lock, for which the one at the head of the line waits.
    looks = []
    monkeypatch.setattr(line.time, "sleep", looks.append)
    enqueue(db, [build(db)], now=NOW)

    with db.atomic():
        claimed = claim(db, ["*"], limit=1, process_id=ME, now=NOW)

    assert (len(claimed), looks) == (1, [])


def test_a_line_that_cannot_be_stood_in_is_done_without(db, monkeypatch):
    monkeypatch.setattr(line, "LINE_NAME", "no such directory/line")
    enqueue(db, [build(db)], now=NOW)

    assert len(claim(db, ["*"], limit=1, process_id=ME, now=NOW)) == 1


def test_the_line_is_left_though_a_forked_process_keeps_its_file(db, monkeypatch):
    kept = []
    monkeypatch.setattr(line, "open", keeping(kept), raising=False)
    looks = []
    monkeypatch.setattr(line.time, "sleep", looks.append)
    enqueue(db, [build(db), build(db)], now=NOW)

    for _ in range(2):
        assert len(claim(db, ["*"], limit=1, process_id=ME, now=NOW)) == 1

    assert looks == []
    for descriptor in kept:
        os.close(descriptor)


def test_a_file_system_without_locks_lets_everybody_in(db, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(line.fcntl, "flock", refuse)
    enqueue(db, [build(db)], now=NOW)

    claimed = claim(db, ["*"], limit=1, process_id=ME, now=NOW)
    with engine_for(db).locked(db) as is_ours:
        pass

    assert len(claimed) == 1
    assert is_ours


def keeping(kept):
    """Give an `open` that leaves a second descriptor behind, as a fork does."""

    def opened(*args):
        file = open(*args)  # noqa: SIM115
        kept.append(os.dup(file.fileno()))
        return file

    return opened
