"""The rows of processes: registered, kept, found silent, deleted."""

from datetime import timedelta
from threading import Event

import pytest

from dj_queue.models import Process
from dj_queue.models.ids import new_id
from dj_queue.operations.claim import claim
from dj_queue.operations.processes import beat, deregister, forget, register, silent_processes
from tests.jobs import EVERY, NOW, store
from tests.races.together import together

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)

SUPERVISOR = new_id()


def row(process_id=None, *, kind="worker", supervisor_id=SUPERVISOR, at=NOW):
    return Process(
        id=process_id or new_id(),
        kind=kind,
        name=kind,
        pid=1,
        hostname="here",
        supervisor_id=supervisor_id,
        metadata={},
        started_at=at,
        last_heartbeat_at=at,
    )


def family(db, count):
    """Register a supervisor and so many workers; return the workers' ids."""
    rows = [row() for _ in range(count)]
    register(db, [row(SUPERVISOR, kind="supervisor", supervisor_id=None), *rows])
    return [each.pk for each in rows]


def ids(db):
    return set(db.objects(Process).values_list("pk", flat=True))


def test_registering_again_changes_nothing(db):
    [worker] = family(db, 1)

    register(db, [row(worker, kind="dispatcher", at=NOW + timedelta(hours=1))])

    assert db.objects(Process).get(pk=worker).kind == "worker"
    assert db.objects(Process).get(pk=worker).last_heartbeat_at == NOW


def test_a_beat_moves_the_heartbeat_of_these_and_names_those_without_a_row(db):
    first, second = family(db, 2)
    gone, later = new_id(), NOW + timedelta(seconds=30)

    assert beat(db, [first, gone], now=later) == {gone}
    assert beat(db, [first], now=later) == set()

    heartbeats = dict(db.objects(Process).values_list("pk", "last_heartbeat_at"))
    assert heartbeats == {first: later, second: NOW, SUPERVISOR: NOW}


def test_a_beat_at_the_same_moment_as_the_last_one_finds_its_row(db):
    # A database may count the rows that an UPDATE changed, and not those that it found.
    [worker] = family(db, 1)

    assert beat(db, [worker], now=NOW) == set()


def test_the_last_process_takes_its_supervisor_with_it(db):
    first, second = family(db, 2)
    others = row(supervisor_id=new_id())
    register(db, [others])

    deregister(db, [first])
    assert ids(db) == {second, SUPERVISOR, others.pk}
    deregister(db, [second])

    assert ids(db) == {others.pk}


def test_two_processes_that_end_at_once_take_their_supervisor_with_them(db):
    # The first has deleted its row and not committed when the second one looks for others.
    first, second = family(db, 2)
    first_looked, second_done = Event(), Event()

    def end_first() -> None:
        with db.atomic():
            deregister(db, [first])
            first_looked.set()
            # One waits for the other; an answer in time would be one too early.
            second_done.wait(0.5)

    def end_second() -> None:
        assert first_looked.wait(20)
        deregister(db, [second])
        second_done.set()

    together([end_first, end_second])

    assert ids(db) == set()


def test_a_process_that_leaves_claims_is_kept_until_it_is_forgotten(db):
    [worker] = family(db, 1)
    store(db)
    claim(db, ["*"], limit=1, process_id=worker, now=NOW)

    deregister(db, [worker])
    assert ids(db) == {worker, SUPERVISOR}
    forget(db, [worker])

    assert ids(db) == set()


def test_silent_are_those_whose_last_heartbeat_is_older_than_the_threshold(db):
    rows = {seconds: row(at=NOW - timedelta(seconds=seconds)) for seconds in (59, 60, 61, 3600)}
    register(db, list(rows.values()))

    found = silent_processes(db, now=NOW, alive_threshold_seconds=60)

    assert found == {rows[n].pk: NOW - timedelta(seconds=n) for n in (61, 3600)}


def test_claims_of_a_process_without_a_row_make_it_silent(db):
    known, unknown = row(), new_id()
    register(db, [known])
    store(db, count=2)
    for process_id in (known.pk, unknown):
        claim(db, ["*"], limit=1, process_id=process_id, now=NOW)

    assert silent_processes(db, now=NOW, alive_threshold_seconds=60) == {unknown: None}
